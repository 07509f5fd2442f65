package notify

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"storaged/internal/record"
)

func event(n int) Event {
	return Event{Notice: record.Notice{ID: fmt.Sprint(n), Time: time.Now()}}
}

func opened(t *testing.T, file string) *queue {
	t.Helper()
	q, err := openQueue(file)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// head fails unless that event is the first, with as many dropped before it.
func (q *queue) head(t *testing.T, id string, dropped int) Event {
	t.Helper()
	e, ok := q.first()
	if !ok || e.ID != id || e.Dropped != dropped {
		t.Fatalf("the first event is %q (%t), after %d that were dropped; want %q, %d", e.ID, ok, e.Dropped, id, dropped)
	}
	return e
}

func TestAFullQueueDropsTheOldest(t *testing.T) {
	q := opened(t, filepath.Join(t.TempDir(), "q"))
	for i := range queueLength {
		if q.offer(event(i)) {
			t.Fatalf("event %d found no room", i)
		}
	}
	first := q.head(t, "0", 0)
	for i := range 3 {
		if !q.offer(event(queueLength + i)) {
			t.Fatal("nothing had to go")
		}
	}
	q.done(first, true) // it was on its way when it had to go
	e := q.head(t, "3", 2)
	q.offer(event(queueLength + 3))
	q.done(e, true)
	q.head(t, "4", 0)
	if waiting, dropped := q.count(); waiting != queueLength || dropped != 0 {
		t.Errorf("%d wait, %d were dropped", waiting, dropped)
	}
}

func TestWhatIsRefusedOrTooOldCountsAsDropped(t *testing.T) {
	q := opened(t, filepath.Join(t.TempDir(), "q"))
	old := event(0)
	old.Time = time.Now().Add(-keepFor - time.Minute)
	for _, e := range []Event{old, event(1), event(2)} {
		q.offer(e)
	}
	q.done(q.head(t, "1", 1), false)
	q.done(q.head(t, "2", 2), true)
	if waiting, dropped := q.count(); waiting != 0 || dropped != 0 {
		t.Errorf("%d wait, %d were dropped", waiting, dropped)
	}
}

func TestAQueueIsTheSameForTheNextDaemon(t *testing.T) {
	file := filepath.Join(t.TempDir(), "dir", "q")
	q := opened(t, file)
	for i := range 3 {
		q.offer(event(i))
	}
	q.offer(event(1)) // came before
	q.done(q.head(t, "0", 0), true)
	if err := q.save(); err != nil {
		t.Fatal(err)
	}
	born := q.born
	q = opened(t, file)
	if err := q.save(); err != nil { // before anybody has looked for what may be missing
		t.Fatal(err)
	}
	if !q.since.Equal(opened(t, file).since) || len(q.seen) != 3 {
		t.Errorf("it has everything since %v, and knows %d events", q.since, len(q.seen))
	}
	q.offer(event(0)) // was told before
	q.done(q.head(t, "1", 0), true)
	q.done(q.head(t, "2", 0), true)
	if _, ok := q.first(); ok {
		t.Error("there is more")
	}
	if from := q.from(); !from.Equal(born) {
		t.Errorf("it asks for what came since %v", from)
	}
	q.since = born.Add(time.Hour)
	if from := q.from(); !from.Equal(q.since.Add(-overlap)) {
		t.Errorf("after an hour it asks for what came since %v", from)
	}
	q.caughtUp()
	if err := q.save(); err != nil || time.Since(q.since) > time.Hour {
		t.Errorf("it has everything since %v (%v)", q.since, err)
	}
	if st, err := os.Stat(file); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", st, err)
	}
}

// Of a queue that cannot be read all is looked for that may have been in it.
func TestADamagedQueueBeginsAnew(t *testing.T) {
	file := filepath.Join(t.TempDir(), "q")
	if err := os.WriteFile(file, []byte(`{"waiting":`), 0o600); err != nil {
		t.Fatal(err)
	}
	q, err := openQueue(file)
	if from := time.Since(q.from()); err == nil || from < keepFor {
		t.Errorf("%v, it asks for what came in %v", err, from)
	}
	q.offer(event(1))
	q.head(t, "1", 0)
}

func TestPausesGrowAndAreBounded(t *testing.T) {
	for tries := range 100 {
		want := min(maxPause, time.Second<<min(tries, 20))
		if got := pause(time.Second, tries); got < want/2 || got >= want {
			t.Errorf("after %d tries it is %v, want %v at most", tries, got, want)
		}
	}
}
