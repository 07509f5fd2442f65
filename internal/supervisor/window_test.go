package supervisor

import (
	"flag"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"storaged/internal/record"
)

// withWindows is an async job on a whole pool that has windows.
func withWindows(ground string, argv []string) Request {
	r := request(argv, record.Object{Pool: "p", Mode: record.ModeRead})
	r.Kind, r.UndoArgv = record.PoolVerify, fakeHelper("undoAlone", ground)
	return r
}

// visiting is a normal job on one volume of it, which waits for ever.
func visiting(volume string, m record.Mode, argv []string) Request {
	r := request(argv, record.Object{Pool: "p", Volume: volume, Mode: m})
	r.Kind, r.Class, r.UndoArgv, r.LockWait = record.VolumeResize, record.Normal, nil, after(-1)
	return r
}

func warned(text string) func(record.Job) bool {
	return func(j record.Job) bool { return slices.Contains(j.Warnings, text) }
}

func isOpen(j record.Job) bool { return slices.Contains(j.Interruptible, record.ModeWrite) }

// scene is a holder with its window open and a visitor inside.
type scene struct {
	ground              string
	closing, done, stay gate
	holder, inside      string
}

func newScene(t *testing.T) scene {
	return scene{ground: filepath.Join(t.TempDir(), "plot"), closing: newGate(t), done: newGate(t), stay: newGate(t)}
}

func (s *scene) argv() []string {
	return fakeHelper("openWindow", s.ground, s.closing.path, s.done.path)
}
func (s *scene) guestArgv() []string { return fakeHelper("visit", s.ground, s.stay.path) }

func (s *scene) open(r *rig) {
	r.t.Helper()
	s.holder = r.submit(withWindows(s.ground, s.argv())).ID
	r.until(s.holder, isOpen)
	s.inside = r.submit(visiting("v", record.ModeGrow, s.guestArgv())).ID
	r.until(s.inside, warned("inside"))
}

func TestWindowIsAcknowledgedAfterTheLastVisitor(t *testing.T) {
	r, s := newRig(t), newScene(t)
	s.open(r)
	if j, _ := r.sup.Job(s.holder); !slices.Equal(j.Interruptible, []record.Mode{"Q", "R", "M", "G", "W", "D"}) || len(j.WaitingOn) != 0 {
		t.Errorf("with an open window: interruptible %v, waits on %v", j.Interruptible, j.WaitingOn)
	}
	s.closing.open()
	j := r.until(s.holder, func(j record.Job) bool { return len(j.WaitingOn) > 0 })
	inside, _ := r.sup.Job(s.inside)
	if isOpen(j) || j.WaitingOn[0].Holder.Number != inside.Number || j.WaitingOn[0].Object.Volume != "v" {
		t.Errorf("while it closes: interruptible %v, waits on %+v", j.Interruptible, j.WaitingOn[0])
	}
	late := r.submit(visiting("u", record.ModeWrite, fakeHelper("visit", s.ground)))
	if late.State != record.Queued || late.WaitingOn[0].Holder.Number != j.Number {
		t.Errorf("who comes late is %s, waits on %+v", late.State, late.WaitingOn)
	}
	s.stay.open()
	r.ended(s.inside, record.Succeeded)
	j = r.until(s.holder, warned("alone"))
	if isOpen(j) || len(j.WaitingOn) != 0 {
		t.Errorf("closed: interruptible %v, waits on %v", j.Interruptible, j.WaitingOn)
	}
	s.done.open()
	r.ended(s.holder, record.Succeeded)
	r.ended(late.ID, record.Succeeded)
}

func TestWhoWaitsSeesTheNextWindow(t *testing.T) {
	r, s := newRig(t), newScene(t)
	holder := r.submit(withWindows(s.ground, s.argv())).ID
	r.until(holder, isOpen)
	s.closing.open()
	r.until(holder, warned("alone"))
	late := r.submit(visiting("u", record.ModeWrite, fakeHelper("visit", s.ground)))
	j := r.until(late.ID, func(j record.Job) bool { return j.WaitingOn[0].NextWindow != nil })
	now, _ := r.sup.Job(holder)
	if at := j.WaitingOn[0].NextWindow; at.Before(*now.Started) {
		t.Errorf("next window at %v", at)
	}
	stop := visiting("", record.ModeDelete, fakeHelper("short"))
	async := request(fakeHelper("short"), record.Object{Pool: "p", Volume: "w", Mode: record.ModeWrite})
	for _, req := range []Request{stop, async} {
		for _, b := range r.sup.Blockers(req) {
			if b.NextWindow != nil {
				t.Errorf("%s of class %s is promised a window: %+v", req.Objects[0], req.Class, b)
			}
		}
	}
	s.done.open()
	r.ended(holder, record.Succeeded)
	r.ended(late.ID, record.Succeeded)
}

func TestStopOfThePoolIsNoVisitor(t *testing.T) {
	r, s := newRig(t), newScene(t)
	s.open(r)
	stop := r.submit(visiting("", record.ModeDelete, fakeHelper("visit", s.ground)))
	s.stay.open()
	r.ended(s.inside, record.Succeeded)
	if j, _ := r.sup.Job(stop.ID); j.State != record.Queued {
		t.Errorf("it is %s in an open window", j.State)
	}
	s.closing.open()
	s.done.open()
	r.ended(s.holder, record.Succeeded)
	r.ended(stop.ID, record.Succeeded)
}

func TestCanceledHolderLetsNobodyElseIn(t *testing.T) {
	r, s := newRig(t), newScene(t)
	s.open(r)
	j, err := r.sup.Cancel(s.holder, uid1000, false)
	if err != nil || isOpen(j) {
		t.Errorf("canceled: interruptible %v, %v", j.Interruptible, err)
	}
	r.ended(s.holder, record.Canceled)
	s.stay.open()
	r.ended(s.inside, record.Succeeded)
}

func TestDeadHolderIsSettledAfterItsVisitors(t *testing.T) {
	r, s := newRig(t), newScene(t)
	s.open(r)
	j, _ := r.sup.Job(s.holder)
	if err := syscall.Kill(j.Helper.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	j = r.untilState(s.holder, record.RollingBack)
	late := r.submit(visiting("u", record.ModeWrite, fakeHelper("visit", s.ground)))
	if late.State != record.Queued {
		t.Errorf("while its holder is dead a visitor is %s", late.State)
	}
	j = r.until(s.holder, func(j record.Job) bool { return len(j.WaitingOn) > 0 })
	if j.WaitingOn[0].Holder.ID != s.inside || isOpen(j) {
		t.Errorf("it waits on %+v, interruptible %v", j.WaitingOn[0], j.Interruptible)
	}
	s.stay.open()
	r.ended(s.inside, record.Succeeded)
	if j = r.ended(s.holder, record.Failed); j.Code() != record.Killed || j.Rollback != record.RollbackDone {
		t.Errorf("%+v, rollback %s", j.Error, j.Rollback)
	}
	r.ended(late.ID, record.Succeeded)
}

// The window outlives the daemon, with who is inside, and is closed by another.
func TestWindowOutlivesTheDaemon(t *testing.T) {
	r, s := newRig(t), newScene(t)
	s.open(r)
	r.again()
	if j := r.until(s.holder, isOpen); j.State != record.Running {
		t.Errorf("a window is open in state %s", j.State)
	}
	second := r.submit(visiting("u", record.ModeDelete, fakeHelper("visit", s.ground)))
	r.ended(second.ID, record.Succeeded)
	s.closing.open()
	r.until(s.holder, func(j record.Job) bool { return len(j.WaitingOn) > 0 })
	r.again()
	j := r.until(s.holder, func(j record.Job) bool { return j.State == record.Running && len(j.WaitingOn) > 0 })
	if isOpen(j) || j.WaitingOn[0].Holder.ID != s.inside {
		t.Errorf("it waits on %+v, interruptible %v", j.WaitingOn[0], j.Interruptible)
	}
	s.stay.open()
	r.until(s.holder, warned("alone"))
	s.done.open()
	r.ended(s.holder, record.Succeeded)
	r.ended(s.inside, record.Succeeded)
}

// isolationRuns is few in the gate; the whole hundred is
//
//	go test ./internal/supervisor -run Isolation -isolation-runs 100
var isolationRuns = flag.Int("isolation-runs", 4, "runs of the test of windows")

// TestIsolationOfWindows lets clients hammer a job that has windows with
// visitors and queries in tight loops. Holder and visitors assert, by locks of
// the kernel on the same file, that nobody visits while the window is closed
// and that no visitor sees it closed. Every run disturbs the holder in another
// way.
func TestIsolationOfWindows(t *testing.T) {
	r := newRig(t)
	var visits atomic.Int64
	for i := range *isolationRuns {
		isolationRun(t, r, i, &visits)
	}
	t.Logf("%d visitors in %d runs", visits.Load(), *isolationRuns)
	if visits.Load() == 0 {
		t.Error("nobody has visited")
	}
}

// disturbances are what may happen to a holder, and how it ends then.
var disturbances = []struct {
	name string
	do   func(*rig, record.Job) error
	ends record.State
}{
	{"nothing", func(*rig, record.Job) error { return nil }, record.Succeeded},
	{"pause", func(r *rig, j record.Job) error {
		if _, err := r.sup.Pause(j.ID, uid1000); err != nil {
			return err
		}
		_, err := r.sup.Resume(j.ID, uid1000)
		return err
	}, record.Succeeded},
	{"cancel", func(r *rig, j record.Job) error { _, err := r.sup.Cancel(j.ID, uid1000, false); return err }, record.Canceled},
	{"kill", func(_ *rig, j record.Job) error { return syscall.Kill(j.Helper.PID, syscall.SIGKILL) }, record.Failed},
}

func isolationRun(t *testing.T, r *rig, i int, visits *atomic.Int64) {
	t.Helper()
	ground := filepath.Join(t.TempDir(), fmt.Sprint("plot", i))
	holder := r.submit(withWindows(ground, fakeHelper("walk", ground, "12")))
	over := make(chan struct{})
	var clients sync.WaitGroup
	for c := range 3 {
		clients.Go(func() { hammerVisits(t, r, ground, c, over, visits) })
	}
	clients.Go(func() { hammerReads(t, r, holder.ID, over) })
	clients.Go(func() { hammerQueries(t, r, over) })
	r.until(holder.ID, func(j record.Job) bool { return j.State.Terminal() || j.Progress.Done >= int64(1+i%5) })
	d := disturbances[i%len(disturbances)]
	j, err := r.sup.Job(holder.ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.do(r, j); err != nil {
		t.Errorf("%s: %v", d.name, err)
	}
	j = r.ended(holder.ID, d.ends)
	close(over)
	clients.Wait()
	if j.Error != nil && strings.Contains(j.Error.Message, "visitor") || j.Rollback == record.RollbackFailed {
		t.Errorf("run %d (%s): %+v, rollback %s", i, d.name, j.Error, j.Rollback)
	}
}

// hammerVisits submits one visitor after the other.
func hammerVisits(t *testing.T, r *rig, ground string, client int, over <-chan struct{}, visits *atomic.Int64) {
	modes := []record.Mode{record.ModeGrow, record.ModeWrite, record.ModeDelete}
	for n := 0; ; n++ {
		select {
		case <-over:
			return
		default:
		}
		j, err := r.sup.Submit(r.ctx(), visiting(fmt.Sprint("v", (client+n)%2), modes[n%3], fakeHelper("visit", ground)))
		if err == nil {
			j, err = r.sup.Wait(r.ctx(), j.ID)
		}
		if err != nil || j.State != record.Succeeded {
			t.Errorf("visitor: %s, %v, %+v", j.State, err, j.Error)
			return
		}
		visits.Add(1)
	}
}

// hammerReads looks at everything, and that no window is open when it must not
// be.
func hammerReads(t *testing.T, r *rig, holder string, over <-chan struct{}) {
	for {
		select {
		case <-over:
			return
		default:
		}
		j, err := r.sup.Job(holder)
		if err != nil || isOpen(j) && !mayOpen(j.State) {
			t.Errorf("%s with %v: %v", j.State, j.Interruptible, err)
			return
		}
		if _, _, err := r.sup.Jobs(Query{Limit: 10}); err != nil {
			t.Error(err)
			return
		}
	}
}

func hammerQueries(t *testing.T, r *rig, over <-chan struct{}) {
	ctx := r.ctx() // one for all: the loop is tight
	for {
		select {
		case <-over:
			return
		default:
		}
		if _, _, err := r.sup.Query(ctx, "p", fakeHelper("short")); err != nil {
			t.Error(err)
			return
		}
	}
}
