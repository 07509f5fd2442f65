package supervisor

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"storaged/internal/events"
	"storaged/internal/record"
	"storaged/internal/store"
	"storaged/internal/supervisor/helpertest"
	"storaged/internal/supervisor/process"
)

// envDaemon makes the test binary a daemon on the directory it names, which
// carries out orders from its standard input until it is killed.
const envDaemon = "STORAGED_TEST_DAEMON"

// order is one line to the daemon; the answer is a line with a job.
type order struct {
	Do   string // see obey
	ID   string
	Argv []string
	Undo []string

	Resume record.Resume
}

func runDaemon() {
	dir := os.Getenv(envDaemon)
	os.Unsetenv(envDaemon) // helpers are no daemons
	self, err := os.Executable()
	helpertest.Check(err)
	st, err := store.Open(filepath.Join(dir, "state", "db"))
	helpertest.Check(err)
	tt, hub := testTimes(), events.New(1000)
	sup := New(Config{
		RuntimeDir: filepath.Join(dir, "run"), StateDir: filepath.Join(dir, "state"), Helper: self,
		Log: hclog.New(&hclog.LoggerOptions{Output: os.Stderr}), Times: tt, Attempts: attempts,
	}, st, newTestCatalog(), hub)
	r := &rig{sup: sup, hub: hub, logged: &helpertest.Buffer{}, t: fatal{}}
	helpertest.Check(sup.Start(r.ctx()))
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var o order
		helpertest.Check(json.Unmarshal(lines.Bytes(), &o))
		j, err := r.obey(o)
		helpertest.Check(err)
		b, err := json.Marshal(j)
		helpertest.Check(err)
		fmt.Printf("%s\n", b)
	}
	select {} // only a kill ends it
}

// fatal is a testing.TB outside of a test: a failure ends the process.
type fatal struct{ testing.TB }

func (fatal) Helper()        {}
func (fatal) Cleanup(func()) {}

func (fatal) Fatal(args ...any) { helpertest.Check(errors.New(fmt.Sprint(args...))) }

func (fatal) Fatalf(format string, args ...any) { helpertest.Check(fmt.Errorf(format, args...)) }

func (r *rig) obey(o order) (record.Job, error) {
	switch o.Do {
	case "submit":
		req := request(o.Argv)
		req.UndoArgv, req.Resume = o.Undo, o.Resume
		return r.sup.Submit(r.ctx(), req)
	case "work":
		return r.working(o.ID), nil
	case "starting":
		return r.untilState(o.ID, record.Starting), nil
	case "running":
		return r.untilState(o.ID, record.Running), nil
	case "ended":
		return r.sup.Wait(r.ctx(), o.ID)
	case "marked":
		return r.marked(o.ID), nil
	case "warned":
		return r.until(o.ID, func(j record.Job) bool { return len(j.Warnings) > 0 }), nil
	case "cancel":
		return r.sup.Cancel(o.ID, uid1000, false)
	case "pause":
		if _, err := r.sup.Pause(o.ID, uid1000); err != nil {
			return record.Job{}, err
		}
		return r.untilState(o.ID, record.Paused), nil
	}
	return record.Job{}, fmt.Errorf("no such order %q", o.Do)
}

// daemon is a supervisor in a process of its own.
type daemon struct {
	t   *testing.T
	dir string
	cmd *exec.Cmd
	in  io.Writer
	out *bufio.Reader
	log *helpertest.Buffer
}

func newDaemon(t *testing.T) *daemon {
	t.Helper()
	return daemonIn(t, t.TempDir())
}

// daemonIn starts a daemon in a directory where another may have been.
func daemonIn(t *testing.T, dir string) *daemon {
	t.Helper()
	d := &daemon{t: t, dir: dir, log: &helpertest.Buffer{}}
	for _, name := range []string{"run", "state"} {
		if err := os.MkdirAll(filepath.Join(d.dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	d.cmd = exec.Command(self)
	d.cmd.Env = append(os.Environ(), envDaemon+"="+d.dir)
	d.cmd.Stderr = d.log
	in, err1 := d.cmd.StdinPipe()
	out, err2 := d.cmd.StdoutPipe()
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	d.in, d.out = in, bufio.NewReader(out)
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.kill)
	return d
}

func (d *daemon) do(o order) record.Job {
	d.t.Helper()
	b, err := json.Marshal(o)
	if err != nil {
		d.t.Fatal(err)
	}
	if _, err := fmt.Fprintf(d.in, "%s\n", b); err != nil {
		d.t.Fatal(err, d.log)
	}
	line, err := d.out.ReadBytes('\n')
	if err != nil {
		d.t.Fatalf("daemon: %v\n%s", err, d.log)
	}
	var j record.Job
	if err := json.Unmarshal(line, &j); err != nil {
		d.t.Fatal(err)
	}
	return j
}

// kill ends the daemon as kill -9 does.
func (d *daemon) kill() {
	if d.cmd.ProcessState == nil {
		d.cmd.Process.Kill()
		d.cmd.Wait()
	}
}

// next starts another supervisor, in this process, where the dead one was.
func (d *daemon) next() *rig {
	d.t.Helper()
	r := stillRig(d.t, d.dir)
	r.start()
	return r
}

func TestHelperOutlivesTheDaemon(t *testing.T) {
	d, g := newDaemon(t), newGate(t)
	id := d.do(order{Do: "submit", Argv: fakeHelper("work", g.path), Undo: fakeHelper("undo")}).ID
	before := d.do(order{Do: "work", ID: id})
	d.kill()
	r := d.next()
	after := r.working(id)
	if after.Helper.PID != before.Helper.PID || after.Progress.Done < before.Progress.Done {
		t.Errorf("helper %d at %d, was %d at %d", after.Helper.PID, after.Progress.Done, before.Helper.PID, before.Progress.Done)
	}
	g.open()
	j := r.ended(id, record.Succeeded)
	if j.Number != before.Number || len(j.Warnings) != 0 {
		t.Errorf("job %d, warnings %q: its exit status should be known", j.Number, j.Warnings)
	}
}

func TestAdoptedHelperObeys(t *testing.T) {
	d := newDaemon(t)
	id := d.do(order{Do: "submit", Argv: fakeHelper("work"), Undo: fakeHelper("undo")}).ID
	d.do(order{Do: "work", ID: id})
	d.do(order{Do: "pause", ID: id})
	d.kill()
	r := d.next()
	j := r.untilState(id, record.Paused)
	if strings.Join(j.PauseReasons, "") != "user" {
		t.Errorf("pause reasons are %q", j.PauseReasons)
	}
	if _, err := r.sup.Resume(id, uid1000); err != nil {
		t.Fatal(err)
	}
	r.untilState(id, record.Running)
	if _, err := r.sup.Cancel(id, uid1000, false); err != nil {
		t.Fatal(err)
	}
	if j := r.ended(id, record.Canceled); j.Rollback != record.RollbackDone {
		t.Errorf("rollback is %s", j.Rollback)
	}
}

func TestHelperThatEndedMeanwhileShowsItsTruth(t *testing.T) {
	for _, c := range []struct {
		name  string
		kill  bool
		state record.State
		code  record.Code
	}{
		{"well", false, record.Succeeded, ""},
		{"by a kill", true, record.Failed, record.Killed},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, g := newDaemon(t), newGate(t)
			id := d.do(order{Do: "submit", Argv: fakeHelper("work", g.path), Undo: fakeHelper("undo")}).ID
			pid := d.do(order{Do: "work", ID: id}).Helper.PID
			d.kill()
			watch, err := process.Adopt(pid, ticksOf(t, pid))
			if err != nil {
				t.Fatal(err)
			}
			defer watch.Release()
			if c.kill {
				if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
			} else {
				g.open()
			}
			<-watch.Exited()
			gone := time.Now()
			r := d.next()
			// Whoever is process 1 here may or may not have reaped it yet.
			if j := r.ended(id, c.state); j.Code() != c.code && j.Code() != record.Interrupted {
				t.Errorf("error is %+v", j.Error)
			}
			j := r.ended(id, c.state)
			if s := j.Stats; s != nil && (s.CPUS != nil || s.MaxRSSBytes != nil && s.BytesHoles == nil) { // its memory the helper tells itself, with the rest
				t.Errorf("nobody measured it, and yet: %+v", s)
			}
			if !c.kill && j.Ended.After(gone) {
				t.Errorf("ended at %v, after the helper had gone at %v", j.Ended, gone)
			}
			if j.Helper.PID != pid {
				t.Errorf("helper is %+v, was %d", j.Helper, pid)
			}
		})
	}
}

func TestCancelGoesOnAfterARestart(t *testing.T) {
	d := newDaemon(t)
	g := newGate(t)
	id := d.do(order{Do: "submit", Argv: fakeHelper("slowRollback", g.path), Undo: fakeHelper("undo")}).ID
	d.do(order{Do: "running", ID: id})
	d.do(order{Do: "cancel", ID: id})
	d.kill()
	r := d.next()
	r.until(id, func(j record.Job) bool { return j.State == record.RollingBack })
	g.open()
	if j := r.ended(id, record.Canceled); j.CanceledBy == nil || j.CanceledBy.User != "alice" {
		t.Errorf("canceled by %+v", j.CanceledBy)
	}
}

func TestQueuedJobsKeepTheirOrder(t *testing.T) {
	d, g := newDaemon(t), newGate(t)
	var ids []string
	ids = append(ids, d.do(order{Do: "submit", Argv: fakeHelper("work", g.path)}).ID)
	d.do(order{Do: "work", ID: ids[0]})
	for range 3 {
		ids = append(ids, d.do(order{Do: "submit", Argv: fakeHelper("short")}).ID)
	}
	d.kill()
	r := d.next()
	for i, id := range ids[1:] {
		j, err := r.sup.Job(id)
		if err != nil || j.State != record.Queued || len(j.WaitingOn) == 0 || j.WaitingOn[0].Position != i+1 {
			t.Errorf("job %d: %s, waits on %+v, %v", i, j.State, j.WaitingOn, err)
		}
	}
	g.open()
	last := r.ended(ids[0], record.Succeeded)
	for _, id := range ids[1:] {
		j := r.ended(id, record.Succeeded)
		if j.Started.Before(*last.Ended) {
			t.Errorf("job %d started before job %d ended", j.Number, last.Number)
		}
		last = j
	}
}

func TestHelperWithoutGoIsStartedAnew(t *testing.T) {
	d := newDaemon(t)
	id := d.do(order{Do: "submit", Argv: fakeHelper("silent")}).ID
	d.do(order{Do: "starting", ID: id})
	d.kill()
	r := d.next()
	r.untilState(id, record.Starting) // again, from queued
	if _, err := r.sup.Cancel(id, uid1000, true); err != nil {
		t.Fatal(err)
	}
	r.ended(id, record.Canceled)
}

func TestOrphanOfADeadHelperKeepsTheLocks(t *testing.T) {
	d := newDaemon(t)
	id := d.do(order{Do: "submit", Argv: fakeHelper("leaveOrphanAndWait"), Undo: fakeHelper("undo")}).ID
	pid := d.do(order{Do: "running", ID: id}).Helper.PID
	d.do(order{Do: "warned", ID: id})
	d.kill()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r := d.next()
	j := r.ended(id, record.Failed)
	if c := j.Code(); c != record.Interrupted && c != record.Killed || j.Rollback != record.RollbackDone {
		t.Errorf("error %+v, rollback %s", j.Error, j.Rollback)
	}
}

func TestRuntimeDirectoryWiped(t *testing.T) {
	d, g := newDaemon(t), newGate(t)
	id := d.do(order{Do: "submit", Argv: fakeHelper("work", g.path), Undo: fakeHelper("undo")}).ID
	d.do(order{Do: "work", ID: id})
	d.kill()
	if err := os.RemoveAll(filepath.Join(d.dir, "run", "jobs")); err != nil {
		t.Fatal(err)
	}
	r := d.next()
	r.untilState(id, record.Recovering)
	g.open()
	if j := r.ended(id, record.Succeeded); len(j.Warnings) == 0 {
		t.Error("nobody is told that the lines were lost")
	}
}

func TestRestartWithoutDeath(t *testing.T) {
	g := newGate(t)
	r := newRig(t)
	id := r.submit(request(fakeHelper("work", g.path))).ID
	before := r.working(id)
	r.again()
	after := r.working(id)
	if after.Helper.PID != before.Helper.PID {
		t.Errorf("helper %d was %d", after.Helper.PID, before.Helper.PID)
	}
	g.open()
	r.ended(id, record.Succeeded)
}

// What a helper that is stopped for its faults says is "canceled". That it was
// not is known after a restart too.
func TestHelperStoppedForAFaultIsNotCanceledAfterARestart(t *testing.T) {
	g := newGate(t)
	r := newRig(t)
	id := r.submit(request(fakeHelper("garbageLate", g.path))).ID
	r.until(id, func(j record.Job) bool { return len(j.WaitingOn) > 0 && j.WaitingOn[0].For == "helper" })
	r.again()
	g.open()
	j := r.ended(id, record.Failed)
	if j.Error.Code != record.Internal || !strings.Contains(j.Error.Message, "broke the protocol") || j.Rollback != record.RollbackDone || j.CanceledBy != nil {
		t.Errorf("error %+v, rollback %s, canceled by %+v", j.Error, j.Rollback, j.CanceledBy)
	}
}

// The same holds for one whose client was silent.
func TestJobThatWasFailedIsNotCanceledAfterARestart(t *testing.T) {
	g := newGate(t)
	r := newRig(t)
	id := r.submit(request(fakeHelper("slowRollback", g.path))).ID
	r.untilState(id, record.Running)
	if _, err := r.sup.Fail(id, record.Errorf(record.Interrupted, "nothing came")); err != nil {
		t.Fatal(err)
	}
	r.again()
	g.open()
	j := r.ended(id, record.Failed)
	if j.Code() != record.Interrupted || j.Error.Message != "nothing came" || j.CanceledBy != nil {
		t.Errorf("error %+v, canceled by %+v", j.Error, j.CanceledBy)
	}
}

func TestDirectoriesWithoutRecordAreRemoved(t *testing.T) {
	r := stillRig(t, t.TempDir())
	const id = "01993c1e-8f5e-7cc3-b0a4-5a3a1b0b9c11"
	for _, dir := range []string{r.cfg.RuntimeDir, r.cfg.StateDir} {
		for _, name := range []string{id, "no-job"} {
			if err := os.MkdirAll(filepath.Join(dir, "jobs", name), 0o700); err != nil {
				t.Fatal(err)
			}
		}
	}
	r.start()
	for _, dir := range []string{r.cfg.RuntimeDir, r.cfg.StateDir} {
		if _, err := os.Stat(filepath.Join(dir, "jobs", id)); !os.IsNotExist(err) {
			t.Errorf("directory of no job is left in %s: %v", dir, err)
		}
		if _, err := os.Stat(filepath.Join(dir, "jobs", "no-job")); err != nil {
			t.Errorf("what is named like no job was removed: %v", err)
		}
	}
}

func ticksOf(t *testing.T, pid int) uint64 {
	t.Helper()
	ticks, err := process.Ticks(pid)
	if err != nil {
		t.Fatal(err)
	}
	return ticks
}

func TestSettlerThatHadNotBegunIsStartedAgain(t *testing.T) {
	d, here, on := newDaemon(t), newGate(t), newGate(t)
	id := d.do(order{Do: "submit", Argv: fakeHelper("exitWithout", "2"), Undo: fakeHelper("undoLate", here.path, on.path)}).ID
	here.open() // it has not said HELLO
	d.kill()
	r := d.next()
	here.open()
	on.open()
	if j := r.ended(id, record.Failed); j.Rollback != record.RollbackDone || j.Error.Code != record.Internal {
		t.Errorf("rollback is %s, error %v", j.Rollback, j.Error)
	}
}

// What undoes a job that was paused is not paused itself: nobody could let it go
// on.
func TestAdoptedSettlerIsNotPaused(t *testing.T) {
	r, g := newRig(t), newGate(t)
	req := request(fakeHelper("work"))
	req.UndoArgv = fakeHelper("undoUnpaused", g.path)
	id := r.submit(req).ID
	r.working(id)
	if _, err := r.sup.Pause(id, uid1000); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(r.untilState(id, record.Paused).Helper.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r.until(id, func(j record.Job) bool { return slices.Contains(j.Warnings, "undoing") })
	r.again()
	r.untilState(id, record.RollingBack)
	g.open()
	if j := r.ended(id, record.Failed); j.Rollback != record.RollbackDone {
		t.Errorf("rollback is %s, error %v", j.Rollback, j.Error)
	}
}

func TestQueuedJobThatWasCanceledDoesNotStart(t *testing.T) {
	r := stillRig(t, t.TempDir())
	j := past(1, time.Minute, func(j *store.Job) {
		j.State, j.Started, j.Ended, j.Argv, j.CancelAsk = record.Queued, nil, nil, fakeHelper("short"), true
	})
	r.put(j)
	delete(r.catalog.ended, j.ID)
	r.start()
	if got := r.ended(j.ID, record.Canceled); got.Started != nil || got.Helper != nil {
		t.Errorf("started %v, helper %+v", got.Started, got.Helper)
	}
}
