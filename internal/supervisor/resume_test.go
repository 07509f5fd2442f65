package supervisor

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"storaged/internal/ipc"
	"storaged/internal/record"
	"storaged/internal/store"
	"storaged/internal/supervisor/helpertest"
	"storaged/internal/supervisor/process"
)

// markAt is how far the part marks comes before it waits, in bytes.
const markAt = 1 << 20

// marks makes a checkpoint and works on until it is stopped. Told to go on, it
// wants that checkpoint, and ends well; with the word always it is never done, and with the
// word early it comes to no checkpoint.
func (f *fake) marks() {
	f.Begin()
	f.Plan(1<<40, "")
	if slices.Contains(f.Args, flagResume) && !slices.Contains(f.Args, "always") {
		s := helpertest.Success()
		s.Phases = []ipc.Spent{{Name: "open", NS: 1e9}, {Name: "copy", NS: 1e9}}
		if !slices.Contains(f.Args, "early") {
			m, err := ipc.LoadMark(f.Dir.Checkpoint())
			helpertest.Check(err)
			s.Bytes = m.Done
		}
		f.Finish(s, 0)
	}
	f.checkpoint()
	f.Progress(markAt, 1<<40)
	for m := range f.Orders {
		if !f.Obey(m) {
			break
		}
	}
	f.Finish(helpertest.Undone(), 130)
}

func (f *fake) checkpoint() {
	if slices.Contains(f.Args, "early") {
		return
	}
	helpertest.Check(ipc.SaveMark(f.Dir.Checkpoint(), ipc.Mark{Task: "marks", Phase: 1, Done: markAt, Total: 1 << 40, Draft: f.Dir.Job}))
	f.Say(ipc.Checkpoint{Phase: 1, Done: markAt})
}

// undoLeaving leaves what a retry may go on with, if it is told to.
func (f *fake) undoLeaving() {
	f.Begin()
	s := helpertest.Undone()
	if s.Resumable = slices.Contains(f.Args, flagResumable); s.Resumable {
		s.Rollback = "kept_partial"
	}
	f.Finish(s, 130)
}

// resuming is a job that makes checkpoints.
func resuming(how record.Resume, args ...string) Request {
	req := request(fakeHelper("marks", args...))
	req.UndoArgv, req.Resume = fakeHelper("undoLeaving"), how
	return req
}

// marked waits until a job's helper has told of its progress, behind its
// checkpoint.
func (r *rig) marked(id string) record.Job {
	r.t.Helper()
	return r.until(id, func(j record.Job) bool {
		return j.Helper != nil && (j.State == record.Running || j.State == record.Paused) && j.Progress.Done >= markAt
	})
}

// killHelper kills a job's helper as anybody could.
func killHelper(t testing.TB, j record.Job) {
	t.Helper()
	if err := syscall.Kill(j.Helper.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

func TestJobGoesOnAfterItsHelperWasKilled(t *testing.T) {
	r := newRig(t)
	first := r.submit(resuming(record.ResumeAuto))
	waiting := r.submit(request(fakeHelper("short"))) // for the same volume
	before := r.marked(first.ID)
	killHelper(t, before)
	j := r.ended(first.ID, record.Succeeded)
	if j.Number != first.Number || j.Resumed != 1 || j.Result.Bytes != markAt || j.Helper.PID == before.Helper.PID {
		t.Errorf("%+v, result %+v", j, j.Result)
	}
	if len(j.Warnings) != 1 || !strings.Contains(j.Warnings[0], "SIGKILL") || !strings.Contains(j.Warnings[0], "goes on at 1.00 MiB of 1.00 TiB") {
		t.Errorf("warnings %q", j.Warnings)
	}
	if p := j.Stats.Phases; len(p) != 2 || p[0].Name != "copy" || p[0].Seconds <= 1 || p[1].Name != "open" || p[1].Seconds != 1 {
		t.Errorf("of the two helpers the phases are %+v", p)
	}
	if !j.Started.Equal(*before.Started) || j.Resumable != nil {
		t.Errorf("started %v, was %v; resumable %+v", j.Started, before.Started, j.Resumable)
	}
	if next := r.ended(waiting.ID, record.Succeeded); next.Started.Before(*j.Ended) {
		t.Error("another job came to the volume in between")
	}
	if _, err := os.Stat(r.jobDir(j.ID).Checkpoint()); !os.IsNotExist(err) {
		t.Errorf("the checkpoint is left: %v", err)
	}
}

// A job that cannot go on where it was says why, and so does one whose retry could not.
func TestJobThatBeginsAnewSaysWhy(t *testing.T) {
	r := newRig(t)
	id := r.submit(resuming(record.ResumeAuto, "early")).ID
	killHelper(t, r.marked(id))
	j := r.ended(id, record.Succeeded)
	if len(j.Warnings) != 1 || !strings.HasSuffix(j.Warnings[0], "; it begins anew: no checkpoint had been made yet") {
		t.Errorf("warnings %q", j.Warnings)
	}
	id = r.submit(resuming(record.ResumeKeep, "early")).ID
	killHelper(t, r.marked(id))
	j = r.ended(id, record.Failed)
	if want := []string{"a retry begins anew: no checkpoint had been made yet"}; !slices.Equal(j.Warnings, want) || j.Resumable != nil {
		t.Errorf("warnings %q, resumable %+v", j.Warnings, j.Resumable)
	}
}

func TestJobGoesOnOnlySoOften(t *testing.T) {
	r := newRig(t)
	id := r.submit(resuming(record.ResumeAuto, "always")).ID
	for n := range attempts + 1 {
		j := r.until(id, func(j record.Job) bool {
			return j.Resumed == n && j.State == record.Running && j.Progress.Done >= markAt
		})
		killHelper(t, j)
	}
	j := r.ended(id, record.Failed)
	if j.Resumed != attempts || j.Code() != record.Killed || j.Rollback != record.RollbackKept || j.Resumable == nil || j.Resumable.Done != markAt {
		t.Errorf("%+v, resumable %+v, error %+v", j, j.Resumable, j.Error)
	}
}

func TestRetryGoesOnFromTheCheckpointOfAnother(t *testing.T) {
	r := newRig(t)
	id := r.submit(resuming(record.ResumeKeep)).ID
	killHelper(t, r.marked(id))
	j := r.ended(id, record.Failed)
	if j.Resumed != 0 || j.Resumable == nil || j.Resumable.Done != markAt || !strings.Contains(j.Error.Hint.String(), "retry 1") {
		t.Fatalf("%+v, resumable %+v, error %+v", j, j.Resumable, j.Error)
	}
	again := resuming(record.ResumeKeep)
	again.From = id
	if j := r.ended(r.submit(again).ID, record.Succeeded); j.Result.Bytes != markAt {
		t.Errorf("result %+v", j.Result)
	}
}

func TestWhatIsNotToBeResumedIsNot(t *testing.T) {
	r := newRig(t)
	never := r.submit(resuming(record.ResumeNever)).ID
	killHelper(t, r.marked(never))
	canceled := r.submit(resuming(record.ResumeAuto)).ID
	for _, c := range []struct {
		id    string
		state record.State
	}{{never, record.Failed}, {canceled, record.Canceled}} {
		if c.id == canceled {
			r.marked(canceled)
			if _, err := r.sup.Cancel(canceled, uid1000, true); err != nil { // killed: it would be resumed otherwise
				t.Fatal(err)
			}
		}
		j := r.ended(c.id, c.state)
		if j.Resumed != 0 || j.Resumable != nil || j.Rollback != record.RollbackDone {
			t.Errorf("%+v, resumable %+v", j, j.Resumable)
		}
		if _, err := os.Stat(r.jobDir(c.id).Checkpoint()); !os.IsNotExist(err) {
			t.Errorf("the checkpoint is left: %v", err)
		}
	}
}

// interruptedInAPause gives a job whose helper died while it was paused, and
// that waits to go on.
func (r *rig) interruptedInAPause() (id string) {
	r.t.Helper()
	id = r.submit(resuming(record.ResumeAuto)).ID
	r.marked(id)
	if _, err := r.sup.Pause(id, uid1000); err != nil {
		r.t.Fatal(err)
	}
	killHelper(r.t, r.untilState(id, record.Paused))
	r.untilState(id, record.Queued)
	return id
}

// A job that is paused when its helper dies stays so. Canceled then, it is
// settled before it ends.
func TestInterruptedJobThatWaitsIsSettledWhenCanceled(t *testing.T) {
	r := newRig(t)
	id := r.interruptedInAPause()
	if _, err := r.sup.Cancel(id, uid1000, false); err != nil {
		t.Fatal(err)
	}
	if j := r.ended(id, record.Canceled); j.Rollback != record.RollbackDone || j.Resumable != nil {
		t.Errorf("%+v", j)
	}
}

func TestInterruptedJobThatWaitsGoesOnWhenResumed(t *testing.T) {
	r := newRig(t)
	id := r.interruptedInAPause()
	r.again() // it waits over a restart of the daemon too
	if _, err := r.sup.Resume(id, uid1000); err != nil {
		t.Fatal(err)
	}
	if j := r.ended(id, record.Succeeded); j.Result.Bytes != markAt || j.Resumed != 1 {
		t.Errorf("%+v", j)
	}
}

// edit changes the record of the only job behind the back of everybody, while
// no daemon runs.
func (d *daemon) edit(id string, change func(*store.Job)) {
	d.t.Helper()
	st, err := store.Open(filepath.Join(d.dir, "state", "db"))
	if err != nil {
		d.t.Fatal(err)
	}
	defer st.Close()
	err = st.Update(func(tx *store.Tx) error {
		j, err := tx.Job(id)
		if err != nil {
			return err
		}
		change(j)
		return tx.PutJob(j)
	})
	if err != nil {
		d.t.Fatal(err)
	}
}

func TestJobGoesOnAfterAReboot(t *testing.T) {
	d := newDaemon(t)
	id := d.do(order{Do: "submit", Argv: fakeHelper("marks"), Undo: fakeHelper("undoLeaving"), Resume: record.ResumeAuto}).ID
	j := d.do(order{Do: "marked", ID: id})
	d.kill()
	killHelper(t, j)
	gone(t, j.Helper.PID)
	d.edit(id, func(j *store.Job) { j.Boot = "another boot" })
	if err := os.RemoveAll(filepath.Join(d.dir, "run", "jobs")); err != nil {
		t.Fatal(err)
	}
	r := d.next()
	j = r.ended(id, record.Succeeded)
	if j.Result.Bytes != markAt || j.Resumed != 1 || !strings.Contains(j.Warnings[0], "nobody watched") {
		t.Errorf("%+v, warnings %q", j, j.Warnings)
	}
}

// gone waits until a process is not alive any more; it may be a zombie.
func gone(t *testing.T, pid int) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, int(patience.Milliseconds()))
		if err == unix.EINTR {
			continue
		}
		if n != 1 {
			t.Fatalf("process %d does not end: %v", pid, err)
		}
		return
	}
}

// neverReached gives a job to whose helper GO was not sent before the daemon was
// killed, although it is recorded so; the helper has ended by itself and says
// that it was never told.
func neverReached(t *testing.T, change func(*store.Job)) (*rig, string) {
	t.Helper()
	d := newDaemon(t)
	id := d.do(order{Do: "submit", Argv: fakeHelper("silent"), Undo: fakeHelper("undo")}).ID
	d.do(order{Do: "starting", ID: id})
	d.kill()
	r := stillRig(t, d.dir)
	family := r.sup.launcher.find(r.jobDir(id))
	if err := family.Kill(); err != nil {
		t.Fatal(err)
	}
	err := r.store.Update(func(tx *store.Tx) error {
		j, err := tx.Job(id)
		if err != nil {
			return err
		}
		j.State, j.Go, j.Argv = record.Running, true, fakeHelper("short")
		change(j)
		return tx.PutJob(j)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(r.jobDir(id).State, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err = ipc.SaveReport(r.jobDir(id).Result(), &ipc.Report{Summary: ipc.Summary{Outcome: ipc.Failed, Untouched: true}})
	if err != nil {
		t.Fatal(err)
	}
	r.start()
	return r, id
}

func TestJobThatGoNeverReachedIsQueuedAgain(t *testing.T) {
	r, id := neverReached(t, func(*store.Job) {})
	if j := r.ended(id, record.Succeeded); len(j.Warnings) > 0 || j.Resumed != 0 {
		t.Errorf("%+v, warnings %q", j, j.Warnings)
	}
}

// A cancel that was answered holds, though the daemon died before it could act.
func TestCanceledJobThatWasToGoOnDoesNot(t *testing.T) {
	r, id := neverReached(t, func(j *store.Job) { j.Resumed, j.CancelAsk = 1, true })
	if j := r.ended(id, record.Canceled); j.Rollback != record.RollbackDone {
		t.Errorf("%+v", j)
	}
}

// A pid is used again. What runs under it now must not be touched, nor be
// taken for the helper.
func TestStrangerUnderTheHelpersPIDIsSpared(t *testing.T) {
	d := newDaemon(t)
	id := d.do(order{Do: "submit", Argv: fakeHelper("work"), Undo: fakeHelper("undo")}).ID
	j := d.do(order{Do: "work", ID: id})
	d.kill()
	killHelper(t, j)
	gone(t, j.Helper.PID)
	stranger := exec.Command("sleep", "60")
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { stranger.Process.Kill(); stranger.Wait() }()
	d.edit(id, func(j *store.Job) { j.Helper.PID = stranger.Process.Pid })
	r := d.next()
	if j := r.ended(id, record.Failed); j.Code() != record.Interrupted || j.Rollback != record.RollbackDone {
		t.Errorf("error %+v, rollback %s", j.Error, j.Rollback)
	}
	if st, err := process.Ticks(stranger.Process.Pid); err != nil || st == 0 {
		t.Errorf("the stranger: %v", err)
	}
	if err := stranger.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the stranger was killed: %v", err)
	}
}

// Where process 1 does not reap, a helper that ended while nobody looked stays
// a zombie: it is not alive, and tells how it ended.
func TestHelperThatIsAZombieIsKnownToHaveEnded(t *testing.T) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil { // we are the process 1 that does not reap
		t.Fatal(err)
	}
	defer unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
	for _, c := range []struct {
		name string
		kill bool
		want record.State
		code record.Code
	}{{"well", false, record.Succeeded, ""}, {"by a kill", true, record.Failed, record.Killed}} {
		t.Run(c.name, func(t *testing.T) {
			d, g := newDaemon(t), newGate(t)
			id := d.do(order{Do: "submit", Argv: fakeHelper("work", g.path), Undo: fakeHelper("undo")}).ID
			j := d.do(order{Do: "work", ID: id})
			d.kill()
			if c.kill {
				killHelper(t, j)
			} else {
				g.open()
			}
			gone(t, j.Helper.PID)
			defer reap(j.Helper.PID)
			if _, err := process.Ticks(j.Helper.PID); err != nil {
				t.Fatalf("it is no zombie: %v", err)
			}
			next := daemonIn(t, d.dir) // another process, whose child it is not
			j = next.do(order{Do: "ended", ID: id})
			if j.State != c.want || j.Code() != c.code || slices.ContainsFunc(j.Warnings, func(w string) bool { return strings.Contains(w, "not known") }) {
				t.Errorf("%s, error %+v, warnings %q", j.State, j.Error, j.Warnings)
			}
		})
	}
}

func reap(pid int) {
	var ws unix.WaitStatus
	unix.Wait4(pid, &ws, 0, nil)
}

// An adopted helper that does not answer is left alone, and warned of.
func TestAdoptedHelperThatDoesNotAnswerWorksOn(t *testing.T) {
	d := newDaemon(t)
	id := d.do(order{Do: "submit", Argv: fakeHelper("ignoreTerm"), Undo: fakeHelper("undo")}).ID
	j := d.do(order{Do: "warned", ID: id})
	d.kill()
	r := stillRig(t, d.dir, func(tt *Times) { tt.Hello = 50 * time.Millisecond })
	r.start()
	r.until(id, func(j record.Job) bool {
		return j.State == record.Recovering && slices.ContainsFunc(j.Warnings, func(w string) bool { return strings.Contains(w, "did not answer") })
	})
	if err := syscall.Kill(j.Helper.PID, 0); err != nil {
		t.Errorf("the helper is gone: %v", err)
	}
}
