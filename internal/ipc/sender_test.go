package ipc

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
)

func newSender(t *testing.T) (*Sender, *os.File) {
	fifo := opened(t, OpenFrames, newFIFO(t))
	return NewSender(fifo), fifo
}

func bodies(frames []Frame) []Message {
	var out []Message
	for _, f := range frames {
		if _, log := f.Body.(Log); !log && f.Body != filler {
			out = append(out, f.Body)
		}
	}
	return out
}

func requireBodies(t *testing.T, fifo *os.File, want ...Message) {
	t.Helper()
	if got := bodies(drained(t, fifo)); !reflect.DeepEqual(got, want) {
		t.Errorf("in the fifo:\n%+v\nwant\n%+v", got, want)
	}
}

func TestFramesAreNumberedAndStamped(t *testing.T) {
	s, fifo := newSender(t)
	before := monotonic()
	s.Send(Beat{})
	s.Send(Progress{Done: 1})
	frames := drained(t, fifo)
	if len(frames) != 2 || frames[0].Seq != 1 || frames[1].Seq != 2 {
		t.Fatalf("frames %+v", frames)
	}
	if frames[0].MonoNS < before || frames[1].MonoNS < frames[0].MonoNS || frames[1].MonoNS > monotonic() {
		t.Errorf("stamped %d and %d, sent after %d", frames[0].MonoNS, frames[1].MonoNS, before)
	}
}

func TestAFullFIFONeverBlocksAndStateComesWhenThereIsRoom(t *testing.T) {
	s, fifo := newSender(t)
	fill(t, fifo)
	hello := Hello{Proto: 1, ProtoMin: 1, PID: 5}
	sent := []Message{
		hello, Phase{Index: 0}, Progress{Done: 1}, Beat{}, Warn{Text: "first"}, Plan{}, Checkpoint{Done: 1}, Window{ID: 1, Open: true},
		State{Activity: ActivityPaused}, Progress{Done: 2}, Checkpoint{Done: 2}, Warn{Text: "second"}, Window{ID: 2},
		State{Activity: ActivityRunning}, Log{Level: "info", Text: "a line"}, Result{Outcome: Succeeded, Digest: testDigest},
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 1000 {
			s.Send(Progress{Done: 1})
		}
		for _, m := range sent {
			s.Send(m)
		}
	}()
	select {
	case <-done:
	case <-time.After(soon):
		t.Fatal("Send blocks on a full fifo")
	}
	drained(t, fifo)
	s.Send(Beat{})
	requireBodies(t, fifo, hello, Plan{}, Phase{Index: 0}, Checkpoint{Done: 2}, State{Activity: ActivityRunning}, Window{ID: 2},
		Warn{Text: "first"}, Warn{Text: "second"}, Progress{Done: 2}, Result{Outcome: Succeeded, Digest: testDigest}, Beat{})
	// 1001 of 1002 PROGRESS, a BEAT, a LOG, and a CHECKPOINT, WINDOW and STATE
	// that newer ones replaced.
	if got := s.Dropped(); got != 1001+5 {
		t.Errorf("%d dropped", got)
	}
	s.Send(Beat{})
	requireBodies(t, fifo, Beat{})
}

func TestNothingOvertakesWhatIsDue(t *testing.T) {
	s, fifo := newSender(t)
	for WriteFrame(fifo, Frame{Body: Log{Level: "info", Text: strings.Repeat("x", maxLogText)}}) == nil {
	}
	long := Warn{Text: strings.Repeat("w", maxText)} // more than the rest of a page that the lines left
	s.Send(long)
	s.Send(Beat{}) // would fit
	requireBodies(t, fifo)
	s.Send(Beat{})
	requireBodies(t, fifo, long, Beat{})
}

func TestWhatIsDueKeepsTheTimeItWasSent(t *testing.T) {
	s, fifo := newSender(t)
	fill(t, fifo)
	s.Send(Phase{Index: 1})
	after := monotonic()
	drained(t, fifo)
	s.Send(Beat{})
	if f := drained(t, fifo); len(f) != 2 || f[0].MonoNS > after || f[1].MonoNS < after {
		t.Errorf("stamped as %+v, sent before and after %d", f, after)
	}
}

func TestResyncTellsEverythingAgainInOrder(t *testing.T) {
	s, fifo := newSender(t)
	kept := []Message{
		Hello{Proto: 1, ProtoMin: 1, PID: 5}, Plan{Phases: []PlanPhase{{Name: "copy", Unit: "bytes", Total: 9}}}, Phase{Index: 1},
		Checkpoint{Phase: 1, Done: 3}, State{Activity: ActivityRunning, Limit: 4}, Window{ID: 8, Open: true}, Warn{Text: "a"}, Warn{Text: "b"},
		Progress{Phase: 1, Done: 6}, Result{Outcome: Failed, Digest: testDigest},
	}
	for _, m := range []Message{kept[0], Plan{}, kept[6], Phase{}, kept[4], Progress{}, kept[2], kept[3], kept[7], kept[1], kept[5], Beat{}, kept[8], kept[9]} {
		s.Send(m)
	}
	drained(t, fifo)
	s.Resync()
	requireBodies(t, fifo, kept...)
	fill(t, fifo)
	s.Resync()
	s.Resync()
	drained(t, fifo)
	s.Send(Beat{})
	requireBodies(t, fifo, append(kept, Beat{})...)
}

func TestProgressOfThePhaseBeforeIsForgotten(t *testing.T) {
	s, fifo := newSender(t)
	s.Send(Progress{Phase: 0, Done: 9})
	s.Send(Phase{Index: 1})
	drained(t, fifo)
	s.Resync()
	requireBodies(t, fifo, Phase{Index: 1})
	s.Send(Progress{Phase: 1, Done: 1})
	s.Send(Phase{Index: 1, NoReturn: true})
	drained(t, fifo)
	s.Resync()
	requireBodies(t, fifo, Phase{Index: 1, NoReturn: true}, Progress{Phase: 1, Done: 1})
}

func TestWhatMustNotBeMissedIsRepeated(t *testing.T) {
	s, fifo := newSender(t)
	fill(t, fifo)
	s.Send(State{Activity: ActivityCanceling, FromAfar: true, SenderPID: 42})
	s.Send(State{Activity: ActivityRollingBack})
	s.Send(Phase{Index: 1, NoReturn: true})
	s.Send(Phase{Index: 2})
	drained(t, fifo)
	s.Send(Beat{})
	requireBodies(t, fifo, Phase{Index: 2, NoReturn: true}, State{Activity: ActivityRollingBack, FromAfar: true, SenderPID: 42}, Beat{})
}

func TestTextsAreCutToFit(t *testing.T) {
	s, fifo := newSender(t)
	s.Send(Log{Level: "info", Text: strings.Repeat("日", 100_000)})
	s.Send(Warn{Text: "a\nb\xff" + strings.Repeat("x", 100_000)})
	frames := drained(t, fifo)
	if len(frames) != 2 {
		t.Fatalf("%d frames", len(frames))
	}
	log, warn := frames[0].Body.(Log), frames[1].Body.(Warn)
	if len(log.Text) != maxLogText || !log.Cut {
		t.Errorf("log line of %d bytes, cut %v", len(log.Text), log.Cut)
	}
	if len(warn.Text) != maxText || !warn.Cut || !strings.HasPrefix(warn.Text, "a b\ufffdxxx") {
		t.Errorf("warning %.20q of %d bytes, cut %v", warn.Text, len(warn.Text), warn.Cut)
	}
}

func TestWarningsAreBoundedAndTheRestIsLogged(t *testing.T) {
	s, fifo := newSender(t)
	var logged []string
	for i := range 100 {
		s.Send(Warn{Text: fmt.Sprintf("warning %d", i)})
		for _, f := range drained(t, fifo) {
			if l, ok := f.Body.(Log); ok {
				logged = append(logged, l.Level+" "+l.Text)
			}
		}
	}
	if n := len(logged); n != 100-MaxWarnings || logged[n-1] != "warn warning 99" {
		t.Errorf("%d logged: %q", n, logged)
	}
	s.Resync()
	got := bodies(drained(t, fifo))
	if len(got) != MaxWarnings || got[MaxWarnings-1].(Warn).Text != "more warnings are in the job's log only" {
		t.Errorf("kept %+v", got)
	}
}

func TestAnImpossibleMessageIsToldInTheLog(t *testing.T) {
	s, fifo := newSender(t)
	s.Send(Plan{Phases: make([]PlanPhase, 65)})
	s.Send(Log{Level: "loud", Text: "hey"})
	for i, f := range drained(t, fifo) {
		if l, ok := f.Body.(Log); !ok || l.Level != "error" || !strings.Contains(l.Text, "internal error: cannot encode") {
			t.Errorf("frame %d is %+v", i, f.Body)
		}
	}
	s.Resync()
	requireBodies(t, fifo)
}

func TestAClosedFIFOIsNoErrorForTheHelper(t *testing.T) {
	s, fifo := newSender(t)
	fifo.Close()
	s.Send(Hello{Proto: 1, ProtoMin: 1, PID: 5})
	s.Send(Beat{})
	s.Resync()
	if s.Dropped() != 1 {
		t.Errorf("%d dropped", s.Dropped())
	}
}

func TestSenderIsSafeForConcurrentUse(t *testing.T) {
	s, fifo := newSender(t)
	var all sync.WaitGroup
	for g := range 4 {
		all.Go(func() {
			for i := range 200 {
				s.Send(Progress{Phase: g, Done: int64(i)})
				if i%50 == 0 {
					s.Resync()
				}
			}
		})
	}
	in := NewReader(fifo, MaxFrame)
	read, finished := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(finished)
		all.Wait()
		s.Send(Result{Outcome: Succeeded, Digest: testDigest})
		beat := time.NewTicker(time.Millisecond)
		defer beat.Stop()
		for { // where the FIFO was full a later frame takes it along
			select {
			case <-read:
				return
			case <-beat.C:
				s.Send(Beat{})
			}
		}
	}()
	fifo.SetReadDeadline(time.Now().Add(2 * soon))
	for seq := uint64(1); ; seq++ {
		f, err := in.Next()
		if err != nil || f.Seq != seq {
			t.Fatalf("frame %d, want %d: %v", f.Seq, seq, err)
		}
		if f.Body.Type() == TypeResult {
			break
		}
	}
	close(read)
	<-finished
}
