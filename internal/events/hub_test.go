package events_test

import (
	"context"
	"fmt"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"storaged/internal/events"
	"storaged/internal/record"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// state is an event that is never left out; its pool's name tells it apart.
func state(n int) record.Event {
	return record.Event{Type: "pool.state", Pool: &record.Pool{Name: fmt.Sprint(n)}}
}

func progressOf(job string, done int64) record.Event {
	return record.Event{Type: "job.progress", Job: &record.Job{ID: job, Progress: record.Progress{Done: done}}}
}

func newHub(t *testing.T, capacity int) *events.Hub {
	t.Helper()
	h := events.New(capacity)
	t.Cleanup(h.Close)
	return h
}

// next reads one event; the test fails when the channel is closed.
func next(t *testing.T, ch <-chan record.Event) record.Event {
	t.Helper()
	e, open := <-ch
	if !open {
		t.Fatal("stream is closed, want an event")
	}
	return e
}

func wantClosed(t *testing.T, ch <-chan record.Event) {
	t.Helper()
	if e, open := <-ch; open {
		t.Fatalf("got event %d %s, want a closed stream", e.Seq, e.Type)
	}
}

func TestSubscribeFromNowSeesOnlyWhatFollows(t *testing.T) {
	h := newHub(t, 8)
	h.Publish(state(1))
	ch := h.Subscribe(t.Context(), 0)
	before := time.Now()
	h.Publish(state(2))
	e := next(t, ch)
	if e.Pool.Name != "2" {
		t.Fatalf("first event is %s, want 2", e.Pool.Name)
	}
	if e.Time.Before(before.Add(-time.Second)) || e.Time.Location() != time.UTC {
		t.Fatalf("time of event is %v", e.Time)
	}
}

func TestSubscribeReplaysAfterNumber(t *testing.T) {
	h := newHub(t, 4)
	first := h.Subscribe(t.Context(), 0)
	h.Publish(state(1))
	one := next(t, first)
	for i := 2; i <= 5; i++ { // event 1 falls out of the ring, 2 to 5 stay
		h.Publish(state(i))
	}
	ch := h.Subscribe(t.Context(), one.Seq)
	for i := 2; i <= 5; i++ {
		if e := next(t, ch); e.Seq != one.Seq+int64(i-1) || e.Pool.Name != fmt.Sprint(i) {
			t.Fatalf("event %d is number %d of pool %s", i, e.Seq-one.Seq, e.Pool.Name)
		}
	}
}

func TestNumberTooOldOrUnknownGivesReset(t *testing.T) {
	h := newHub(t, 4)
	first := h.Subscribe(t.Context(), 0)
	h.Publish(state(1))
	one := next(t, first)
	for i := 2; i <= 6; i++ { // 1 and 2 are forgotten
		h.Publish(state(i))
	}
	last := one.Seq + 5
	for name, after := range map[string]int64{
		"forgotten": one.Seq, "other life": 17, "negative": -1, "of the future": math.MaxInt64,
	} {
		t.Run(name, func(t *testing.T) {
			ch := h.Subscribe(t.Context(), after)
			if e := next(t, ch); e.Type != events.Reset || e.Seq < last || e.Pool != nil {
				t.Fatalf("first event is %+v, want a reset at %d", e, last)
			}
			h.Publish(state(7))
			if e := next(t, ch); e.Type != "pool.state" {
				t.Fatalf("after the reset came %s", e.Type)
			}
		})
	}
}

func TestNumbersOfALaterLifeAreHigher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old := newHub(t, 4)
		ch := old.Subscribe(t.Context(), 0)
		old.Publish(state(1))
		e := next(t, ch)
		time.Sleep(time.Millisecond) // a fake clock: no restart is quicker
		later := newHub(t, 4)
		later.Publish(state(1))
		if e := next(t, later.Subscribe(t.Context(), e.Seq)); e.Type != events.Reset {
			t.Fatalf("a number of the life before gave %s, want reset", e.Type)
		}
	})
}

func TestSlowReaderIsResetAndSlowsNobody(t *testing.T) {
	h := newHub(t, 8)
	slow := h.Subscribe(t.Context(), 0)
	h.Publish(state(0))
	last := next(t, slow).Seq
	quick := h.Subscribe(t.Context(), 0)
	const many = 100
	for i := range many { // would never return if a reader could hold it up
		h.Publish(state(i))
		if e := next(t, quick); e.Pool.Name != fmt.Sprint(i) {
			t.Fatalf("quick reader got %s, want %d", e.Pool.Name, i)
		}
	}
	got := 0
	for e := range slow {
		if e.Type == events.Reset {
			wantClosed(t, slow)
			if got >= many {
				t.Fatalf("slow reader got all %d events and a reset", got)
			}
			if n := h.Dropped(); n != e.Seq-last { // what came after the reset can still be had
				t.Errorf("%d events are counted as dropped, %d were", n, e.Seq-last)
			}
			return
		}
		got, last = got+1, e.Seq
	}
	t.Fatal("slow reader was dropped without a word")
}

func TestProgressOfAReaderBehindIsCoalesced(t *testing.T) {
	h := newHub(t, 64)
	first := h.Subscribe(t.Context(), 0)
	h.Publish(state(0))
	start := next(t, first).Seq
	for i := range int64(10) {
		h.Publish(progressOf("a", i))
		h.Publish(progressOf("b", i))
	}
	h.Publish(record.Event{Type: "job.ended", Job: &record.Job{ID: "a"}})
	ch := h.Subscribe(t.Context(), start)
	var got []string
	for range 3 {
		e := next(t, ch)
		got = append(got, fmt.Sprint(e.Type, " ", e.Job.ID, " ", e.Job.Progress.Done))
	}
	if n := h.Dropped(); n < 18 {
		t.Errorf("%d events are counted as dropped, 18 were", n)
	}
	want := "[job.progress a 9 job.progress b 9 job.ended a 0]"
	if fmt.Sprint(got) != want {
		t.Fatalf("got %v, want %v", got, want)
	}
}

func TestStreamEndsWithItsContext(t *testing.T) {
	h := newHub(t, 8)
	ctx, cancel := context.WithCancel(t.Context())
	idle := h.Subscribe(ctx, 0)
	cancel()
	wantClosed(t, idle)
}

func TestCloseEndsReadersAndPublishers(t *testing.T) {
	h := newHub(t, 8)
	idle := h.Subscribe(t.Context(), 0)
	h.Close()
	h.Close()
	wantClosed(t, idle)
	h.Publish(state(1))
	wantClosed(t, h.Subscribe(t.Context(), 0))
}

func TestCloseDoesNotWaitForAReaderThatStopped(t *testing.T) {
	h := newHub(t, 8)
	h.Subscribe(t.Context(), 0) // never read
	h.Publish(state(1))
	h.Close()
}

// Readers that come, go and resume at random while others publish see every
// event exactly once and in order.
func TestNoGapAndNoDuplicate(t *testing.T) {
	const publishers, each, readers, pieces = 4, 500, 8, 37
	h := newHub(t, publishers*each+1)
	first := h.Subscribe(t.Context(), 0)
	h.Publish(state(-1))
	start := next(t, first).Seq

	var done sync.WaitGroup
	for range publishers {
		done.Go(func() {
			for i := range each {
				h.Publish(state(i))
			}
		})
	}
	for range readers {
		done.Go(func() {
			if err := readInPieces(t.Context(), h, start, start+publishers*each, pieces); err != nil {
				t.Error(err)
			}
		})
	}
	done.Wait()
}

// readInPieces reads the events after from up to to, resuming anew after each
// piece of them.
func readInPieces(ctx context.Context, h *events.Hub, from, to int64, piece int) error {
	for seen := from; seen < to; {
		sub, cancel := context.WithCancel(ctx)
		ch := h.Subscribe(sub, seen)
		for i := 0; i < piece && seen < to; i++ {
			e, open := <-ch
			if !open || e.Seq != seen+1 {
				cancel()
				return fmt.Errorf("after %d came %d (%s, open %v)", seen, e.Seq, e.Type, open)
			}
			seen = e.Seq
		}
		cancel()
	}
	return nil
}
