package supervisor

import (
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"storaged/internal/ipc"
	"storaged/internal/record"
	"storaged/internal/store"
	"storaged/internal/supervisor/estimate"
)

// halves is a plan of a thousand bytes.
var halves = ipc.Plan{Phases: []ipc.PlanPhase{{Name: "wipe", Unit: "bytes", Total: 1000, Weight: 1, Data: true, Bounded: true}}}

func reached(done int64) ipc.Progress {
	return ipc.Progress{Done: done, Durable: done, Total: 1000, Work: done, WorkAll: 1000}
}

// percent is what is shown of a job with that record; -1 for none.
func percent(t *tracker, rec record.Job) float64 {
	rec.State = record.Running
	t.fill(&rec)
	if rec.Progress.Percent == nil {
		return -1
	}
	return *rec.Progress.Percent
}

func TestPercentNeverFallsWhenAnotherHelperGoesOn(t *testing.T) {
	tr := newTracker(estimate.PriorOf(nil))
	tr.plan(halves)
	tr.progress(reached(55), false)
	var rec record.Job
	tr.fill(&rec)
	see := func(when string, tr *tracker, want float64, done int64) {
		t.Helper()
		v := rec
		tr.fill(&v)
		if got := percent(tr, rec); got != want || v.Progress.Done != done {
			t.Errorf("%s: %v %% and %d bytes are shown, want %v and %d", when, got, v.Progress.Done, want, done)
		}
	}
	tr.restart()
	see("before the plan", tr, 5.5, 55)
	tr.plan(halves)
	see("before it is known where it goes on", tr, 5.5, 55)
	tr.progress(reached(49), true)
	see("at the checkpoint", tr, 5.5, 49)
	tr.progress(reached(60), false)
	see("farther", tr, 6, 60)

	next := newTracker(estimate.PriorOf(nil))
	next.found(&store.Job{Job: rec, Go: true})
	next.plan(halves)
	see("in another daemon", next, 5.5, 55)
	next.progress(reached(49), true)
	see("there at the checkpoint", next, 5.5, 49)
}

// A helper was in its phase until it died, however long others that write for it are waited
// for after that.
func TestPhaseOfADeadHelperEndsWithIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := newTracker(estimate.PriorOf(nil))
		tr.plan(ipc.Plan{Phases: append(halves.Phases[:1:1], ipc.PlanPhase{Name: "sync", Unit: "items", Weight: 1})})
		tr.phase(ipc.Phase{Index: 0})
		time.Sleep(2 * time.Second)
		died := time.Now().UTC()
		time.Sleep(time.Hour)
		if spent := tr.spentUntil(died); len(spent) != 1 || spent[0].Seconds != 2 {
			t.Errorf("it was in its phases for %+v", spent)
		}
		tr.phase(ipc.Phase{Index: 1}) // read after its death
		if spent := tr.spentUntil(died); len(spent) != 2 || spent[1].Seconds != 0 {
			t.Errorf("it was in its phases for %+v", spent)
		}
	})
}

func TestNothingIsShownOfAFoundJobUntilItIsKnown(t *testing.T) {
	tr := newTracker(estimate.PriorOf(nil))
	tr.found(&store.Job{Go: true})
	tr.plan(halves)
	if got := percent(tr, record.Job{}); got != -1 {
		t.Errorf("%v %% before the helper has answered", got)
	}
	tr.progress(reached(49), true)
	if got := percent(tr, record.Job{}); got != 4.9 {
		t.Errorf("%v %%, want 4.9", got)
	}
}

func TestWhichProgressIsBehind(t *testing.T) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		t.Fatal(err)
	}
	planned := time.Now()
	sent := func(d time.Duration) ipc.Frame { return ipc.Frame{MonoNS: now.Nano() + int64(d)} }
	for name, c := range map[string]struct {
		run  running
		rec  store.Job
		sent time.Duration // after the plan came
		done int64
		want bool
	}{
		"a new helper's":            {sent: -time.Second},
		"what is repeated":          {run: running{adopted: true}, sent: -time.Second, done: 5, want: true},
		"what follows":              {run: running{adopted: true}, sent: time.Hour, done: 5},
		"of none who go on":         {sent: time.Hour},
		"before it counts the past": {rec: store.Job{Job: record.Job{Resumed: 1}}, sent: time.Hour, want: true},
		"with the past":             {rec: store.Job{Job: record.Job{Resumed: 1}}, sent: time.Hour, done: 5},
		"of a retry":                {rec: store.Job{From: "another"}, sent: time.Hour, want: true},
	} {
		j := &job{rec: c.rec, run: c.run}
		j.run.planned = planned
		if got := j.behind(sent(c.sent), reached(c.done)); got != c.want {
			t.Errorf("%s: behind is %v", name, got)
		}
	}
}

// That a stall has ended is worth an event, though nobody could say what it was of.
func TestStallIsNews(t *testing.T) {
	tr := newTracker(estimate.PriorOf(nil))
	tr.plan(halves)
	tr.takeNews()
	tr.stalled = true
	tr.waits(func() string { return "" })
	if !tr.takeNews() {
		t.Error("nobody hears that it goes on")
	}
	tr.waits(func() string { return "" })
	if tr.takeNews() {
		t.Error("nothing is news")
	}
}
