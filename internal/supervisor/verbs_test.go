package supervisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"storaged/internal/ipc"
	"storaged/internal/record"
)

func itoa(n int) string { return strconv.Itoa(n) }

func fdsOf(t *testing.T, pid int) string {
	t.Helper()
	dir := "/proc/" + itoa(pid) + "/fd"
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		if to, err := os.Readlink(dir + "/" + e.Name()); err == nil {
			out = append(out, to)
		}
	}
	return strings.Join(out, " ")
}

func TestCancelOfAQueuedJobIsAtOnce(t *testing.T) {
	r := newRig(t)
	first := r.submit(request(fakeHelper("work")))
	second := r.submit(request(fakeHelper("short")))
	if second.State != record.Queued {
		t.Fatalf("second job is %s", second.State)
	}
	if _, err := r.sup.Cancel(itoa(int(second.Number)), uid1000, false); err != nil {
		t.Fatal(err)
	}
	j := r.ended(second.ID, record.Canceled)
	if j.Helper != nil || j.Started != nil || j.CanceledBy == nil || j.CanceledBy.User != "alice" || j.ElapsedS != 0 {
		t.Errorf("canceled job is %+v", j)
	}
	if f, err := r.sup.Job(first.ID); err != nil || f.State.Terminal() {
		t.Errorf("first job is %s, %v", f.State, err)
	}
}

func TestCancelOfARunningJob(t *testing.T) {
	r := newRig(t)
	id := r.submit(request(fakeHelper("work"))).ID
	r.working(id)
	j, err := r.sup.Cancel(id, uid1000, false)
	if err != nil || j.State != record.Canceling && j.State != record.Canceled {
		t.Fatalf("canceled: %s, %v", j.State, err)
	}
	j = r.ended(id, record.Canceled)
	if j.Rollback != record.RollbackDone || j.Code() != record.CanceledCode || j.CanceledBy.UID != 1000 || j.ExitCode() != record.ExitCanceled {
		t.Errorf("ended %+v by %+v, rollback %s", j.Error, j.CanceledBy, j.Rollback)
	}
	_, err = r.sup.Cancel(id, uid1000, false)
	if record.CodeOf(err) != record.WrongState || !strings.Contains(err.Error(), "has ended (canceled)") {
		t.Errorf("second cancel: %v", err)
	}
}

func TestCancelClimbsTheLadder(t *testing.T) {
	r := newRig(t, func(tt *Times) { tt.CancelAck, tt.GroupTerm = 100*time.Millisecond, 100*time.Millisecond })
	id := r.submit(request(fakeHelper("ignoreTerm"))).ID
	r.until(id, func(j record.Job) bool { return len(j.Warnings) > 0 })
	begun := time.Now()
	j, err := r.sup.Cancel(id, uid1000, false)
	if err != nil {
		t.Fatal(err)
	}
	if w := j.WaitingOn; len(w) != 1 || w[0].For != "helper" || w[0].ExpectedEnd == nil || w[0].ExpectedEnd.Sub(w[0].Since) != 200*time.Millisecond {
		t.Errorf("it waits on %+v", w)
	}
	j = r.ended(id, record.Canceled)
	if len(j.WaitingOn) > 0 || !slices.ContainsFunc(j.Warnings, func(w string) bool { return strings.Contains(w, "killed by force") }) {
		t.Errorf("at the end it waits on %+v, warnings %q", j.WaitingOn, j.Warnings)
	}
	if took := time.Since(begun); took < 200*time.Millisecond {
		t.Errorf("killed after %v, before its time", took)
	}
	if j.Rollback != record.RollbackDone {
		t.Errorf("rollback is %s: nobody undid what the dead helper left", j.Rollback)
	}
}

func TestCancelNowHasNoPatience(t *testing.T) {
	r := newRig(t, func(tt *Times) { tt.CancelAck, tt.GroupTerm = time.Hour, time.Hour })
	id := r.submit(request(fakeHelper("ignoreTerm"))).ID
	r.until(id, func(j record.Job) bool { return len(j.Warnings) > 0 })
	if _, err := r.sup.Cancel(id, uid1000, false); err != nil {
		t.Fatal(err)
	}
	if _, err := r.sup.Cancel(id, uid1000, true); err != nil {
		t.Fatal(err)
	}
	r.ended(id, record.Canceled)
}

func TestAcknowledgedRollbackGetsItsTime(t *testing.T) {
	g := newGate(t)
	r := newRig(t, func(tt *Times) {
		tt.CancelAck, tt.GroupTerm, tt.Silence = 50*time.Millisecond, 50*time.Millisecond, 3*time.Second
	})
	id := r.submit(request(fakeHelper("slowRollback", g.path))).ID
	pid := r.untilState(id, record.Running).Helper.PID
	if _, err := r.sup.Cancel(id, uid1000, false); err != nil {
		t.Fatal(err)
	}
	r.untilState(id, record.RollingBack)
	if _, err := r.sup.Cancel(id, uid1000, true); record.CodeOf(err) != record.WrongState {
		t.Errorf("cancel of a rollback: %v", err)
	}
	<-time.After(300 * time.Millisecond) // three times the ladder
	if err := syscall.Kill(pid, 0); err != nil {
		t.Errorf("the helper was killed while it undid: %v", err)
	}
	g.open()
	if j := r.ended(id, record.Canceled); j.Rollback != record.RollbackDone {
		t.Errorf("rollback is %s", j.Rollback)
	}
}

func TestCancelOfAStartingJobTouchesNothing(t *testing.T) {
	r := newRig(t)
	id := r.submit(request(fakeHelper("silent"))).ID
	r.untilState(id, record.Starting)
	if _, err := r.sup.Cancel(id, uid1000, false); err != nil {
		t.Fatal(err)
	}
	if j := r.ended(id, record.Canceled); j.Rollback != record.RollbackNone {
		t.Errorf("rollback is %s", j.Rollback)
	}
}

func TestCancelComesTooLate(t *testing.T) {
	g := newGate(t)
	r := newRig(t)
	id := r.submit(request(fakeHelper("noReturn", g.path))).ID
	r.untilState(id, record.Finalizing)
	_, err := r.sup.Cancel(id, uid1000, false)
	if record.CodeOf(err) != record.WrongState || !strings.Contains(err.Error(), "too late") {
		t.Errorf("cancel: %v", err)
	}
	if j, _ := r.sup.Job(id); j.Cancelable {
		t.Error("job says that it can be canceled")
	}
	g.open()
	r.ended(id, record.Succeeded)
}

// A helper that hangs behind its point of no return is not left to hang: what
// it came to is found out by another.
func TestCancelNowEndsAHelperThatHangsBehindItsPointOfNoReturn(t *testing.T) {
	for settler, want := range map[string]record.State{"settleCommitted": record.Succeeded, "undo": record.Canceled} {
		r := newRig(t)
		req := request(fakeHelper("noReturn"))
		req.UndoArgv = fakeHelper(settler)
		id := r.submit(req).ID
		r.untilState(id, record.Finalizing)
		if _, err := r.sup.Cancel(id, uid1000, true); err != nil {
			t.Fatal(err)
		}
		r.ended(id, want)
	}
}

func TestSignalFromOutsideIsACancel(t *testing.T) {
	r := newRig(t)
	id := r.submit(request(fakeHelper("work"))).ID
	j := r.working(id)
	if err := syscall.Kill(j.Helper.PID, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	j = r.ended(id, record.Canceled)
	if want := (record.Owner{UID: record.NoUID, Via: record.ViaSignal, PID: 4711}); j.CanceledBy == nil || *j.CanceledBy != want {
		t.Errorf("canceled by %+v", j.CanceledBy)
	}
	if j.Error == nil || !strings.Contains(j.Error.Message, "by a signal") {
		t.Errorf("error is %+v", j.Error)
	}
}

// A job whose helper waits for room by itself is paused, says for what it waits, and is resumed
// by nobody but its helper.
func TestHelperWaitsForRoom(t *testing.T) {
	r := newRig(t)
	g := newGate(t)
	id := r.submit(request(fakeHelper("lackRoom", g.path))).ID
	for range 2 {
		j := r.untilState(id, record.Paused)
		if strings.Join(j.PauseReasons, " ") != record.PauseSpace || len(j.WaitingOn) != 1 || j.WaitingOn[0].String() != "waits: no more may be taken of the thin pool" {
			t.Errorf("reasons %q, waits on %+v", j.PauseReasons, j.WaitingOn)
		}
		if _, err := r.sup.Resume(id, uid1000); err != nil {
			t.Error(err)
		}
	}
	g.open()
	if j := r.ended(id, record.Succeeded); len(j.PauseReasons) > 0 || len(j.WaitingOn) > 0 {
		t.Errorf("in the end: reasons %q, waits on %+v", j.PauseReasons, j.WaitingOn)
	}
}

func TestPauseReasonsAreASet(t *testing.T) {
	r := newRig(t)
	id := r.submit(request(fakeHelper("work"))).ID
	r.working(id)
	for _, by := range []record.Owner{uid1000, root, uid1000} {
		if _, err := r.sup.Pause(id, by); err != nil {
			t.Fatal(err)
		}
	}
	j := r.untilState(id, record.Paused)
	if strings.Join(j.PauseReasons, " ") != "admin user" {
		t.Errorf("reasons are %q", j.PauseReasons)
	}
	if _, err := r.sup.Resume(id, uid1000); err != nil {
		t.Fatal(err)
	}
	if j, _ := r.sup.Job(id); j.State != record.Paused {
		t.Errorf("runs on with reasons %q", j.PauseReasons)
	}
	if _, err := r.sup.Resume(id, root); err != nil {
		t.Fatal(err)
	}
	j = r.untilState(id, record.Running)
	if len(j.PauseReasons) != 0 || j.PausedS < 0 {
		t.Errorf("reasons %q, paused %v s", j.PauseReasons, j.PausedS)
	}
	var told []string // what was no change is not kept
	for _, c := range j.Changes {
		told = append(told, fmt.Sprint(c.What, " ", c.Reason, " by ", c.By.User))
	}
	if got := strings.Join(told, ", "); got != "pause user by alice, pause admin by root, resume  by alice, resume  by root" {
		t.Errorf("changes are %s", got)
	}
	if _, err := r.sup.Pause(id, uid1000); err != nil {
		t.Fatal(err)
	}
	r.untilState(id, record.Paused)
	if _, err := r.sup.Cancel(id, uid1000, false); err != nil {
		t.Fatal(err)
	}
	r.ended(id, record.Canceled)
}

func TestPauseThatTheEndCutsCountsOnce(t *testing.T) {
	r := newRig(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	told := r.hub.Subscribe(ctx, 0)
	req := request(fakeHelper("work"))
	req.UndoArgv = nil
	id := r.submit(req).ID
	r.working(id)
	if _, err := r.sup.Pause(id, uid1000); err != nil {
		t.Fatal(err)
	}
	j := r.untilState(id, record.Paused)
	for j.PausedS < 0.02 { // what would count twice
		var err error
		if j, err = r.sup.Job(id); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Kill(j.Helper.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r.ended(id, record.Failed)
	for e := range told {
		if e.Type != "job.ended" {
			continue
		}
		kept, err := r.sup.stored(id)
		if err != nil || e.Job.PausedS != kept.PausedS || e.Job.PausedS > e.Job.ElapsedS {
			t.Errorf("told: paused %v s of %v s, kept: %v s (%v)", e.Job.PausedS, e.Job.ElapsedS, kept.PausedS, err)
		}
		break
	}
}

func TestPauseHoldsAQueuedJob(t *testing.T) {
	g := newGate(t)
	r := newRig(t)
	first := r.submit(request(fakeHelper("work", g.path)))
	second := r.submit(request(fakeHelper("short")))
	if _, err := r.sup.Pause(second.ID, uid1000); err != nil {
		t.Fatal(err)
	}
	g.open()
	r.ended(first.ID, record.Succeeded)
	j, err := r.sup.Job(second.ID)
	if err != nil || j.State != record.Queued || len(j.WaitingOn) != 1 || j.WaitingOn[0].For != "hold" {
		t.Fatalf("held job is %s, waits on %+v, %v", j.State, j.WaitingOn, err)
	}
	if _, err := r.sup.Resume(second.ID, uid1000); err != nil {
		t.Fatal(err)
	}
	r.ended(second.ID, record.Succeeded)
}

func TestLimitReachesTheHelper(t *testing.T) {
	r := newRig(t)
	rate, next := int64(1000), int64(5_000_000)
	req := request(fakeHelper("work"))
	req.Limit = &rate
	id := r.submit(req).ID
	r.working(id)
	j, err := r.sup.SetLimit(id, &next, root)
	if err != nil || *j.Limit != next {
		t.Fatalf("limit is %v, %v", j.Limit, err)
	}
	live := r.sup.find(id)
	r.until(id, func(record.Job) bool {
		live.track.mu.Lock()
		defer live.track.mu.Unlock()
		return live.track.limit == next // acknowledged
	})
}

func TestChangesOfALimitAreKeptAndBounded(t *testing.T) {
	r := newRig(t)
	id := r.submit(request(fakeHelper("work"))).ID
	for n := range int64(maxChanges) {
		if _, err := r.sup.SetLimit(id, new(1000+n), root); err != nil {
			t.Fatal(err)
		}
	}
	before := time.Now()
	if _, err := r.sup.SetLimit(id, nil, uid1000); err != nil {
		t.Fatal(err)
	}
	if _, err := r.sup.Cancel(id, uid1000, true); err != nil {
		t.Fatal(err)
	}
	r.ended(id, record.Canceled)
	changes := r.all()[0].Changes
	if len(changes) != maxChanges {
		t.Fatalf("%d changes are kept", len(changes))
	}
	first, last := changes[0], changes[maxChanges-1]
	if first.What != record.ChangeLimit || *first.Limit != 1001 || first.By != root || last.Limit != nil || last.By != uid1000 || last.Time.Before(before) {
		t.Errorf("the first is %+v, the last %+v", first, last)
	}
}

func TestNotesOnLiveAndEndedJobs(t *testing.T) {
	r := newRig(t)
	id := r.submit(request(fakeHelper("work"))).ID
	r.working(id)
	if j, err := r.sup.SetLabels(id, map[string]string{"a": "b"}); err != nil || j.Labels["a"] != "b" {
		t.Errorf("labels %v, %v", j.Labels, err)
	}
	if _, err := r.sup.Forget(id); record.CodeOf(err) != record.WrongState {
		t.Errorf("forgetting a live job: %v", err)
	}
	if _, err := r.sup.Cancel(id, uid1000, true); err != nil {
		t.Fatal(err)
	}
	r.ended(id, record.Canceled)
	j, err := r.sup.SetPinned(id, true)
	if err != nil || !j.Pinned || j.Labels["a"] != "b" {
		t.Errorf("pinned %v, labels %v, %v", j.Pinned, j.Labels, err)
	}
	if _, err := r.sup.Pause(id, uid1000); record.CodeOf(err) != record.WrongState {
		t.Errorf("pausing an ended job: %v", err)
	}
	if _, err := r.sup.SetPinned(id, false); err != nil {
		t.Fatal(err)
	}
	if _, err := r.sup.Forget(id); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(r.jobDir(id).State); !os.IsNotExist(err) {
		t.Errorf("files of the forgotten job: %v", err)
	}
	if _, err := r.sup.Job(id); record.CodeOf(err) != record.NotFound {
		t.Errorf("forgotten job: %v", err)
	}
}

// TestProcessThatNoKillEndsKeepsTheLocks lets this very process have the
// helper's lock, as one would that hangs in the kernel.
func TestProcessThatNoKillEndsKeepsTheLocks(t *testing.T) {
	r := newRig(t, func(tt *Times) { tt.Stuck = 50 * time.Millisecond })
	id := r.submit(request(fakeHelper("work"))).ID
	pid := r.working(id).Helper.PID
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	lock, err := unix.PidfdGetfd(pidfd, ipc.LockFD, 0)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(pidfd)
	if _, err := r.sup.Cancel(id, uid1000, true); err != nil {
		t.Fatal(err)
	}
	live := r.sup.find(id)
	for tick := time.NewTicker(time.Millisecond); live.shown.Load().stuck == nil; <-tick.C { // no event tells of it
	}
	j, err := r.sup.Job(id)
	if err != nil || j.State != record.Canceling || len(j.WaitingOn) != 1 || j.WaitingOn[0].Holder.External == "" {
		t.Errorf("job is %s, waits on %+v, %v", j.State, j.WaitingOn, err)
	}
	req := request(fakeHelper("short"))
	req.LockWait = after(0)
	if running, waiting, stuck := r.sup.Count(); running != 1 || waiting != 0 || stuck != 1 {
		t.Errorf("%d run, %d wait, %d cannot be killed", running, waiting, stuck)
	}
	if _, err := r.sup.Submit(r.ctx(), req); record.CodeOf(err) != record.Busy {
		t.Errorf("its volume is free: %v", err)
	}
	unix.Close(lock)
	if j := r.ended(id, record.Canceled); len(j.WaitingOn) != 0 || j.Rollback != record.RollbackDone {
		t.Errorf("ended waiting on %+v, rollback %s", j.WaitingOn, j.Rollback)
	}
}

func TestFullStateDirectoryDelaysButLosesNothing(t *testing.T) {
	r := newRig(t)
	r.catalog.fails = 3
	j := r.ended(r.submit(request(fakeHelper("short"))).ID, record.Succeeded) // at the grant
	r.catalog.mu.Lock()
	grants := r.catalog.granted[j.ID]
	r.catalog.mu.Unlock()
	if grants != 1 {
		t.Errorf("granted %d times", grants)
	}
	g := newGate(t)
	id := r.submit(request(fakeHelper("work", g.path))).ID
	r.working(id)
	r.catalog.mu.Lock()
	r.catalog.fails = 3 // at the end
	r.catalog.mu.Unlock()
	g.open()
	r.ended(id, record.Succeeded)
	if !strings.Contains(r.logged.String(), "not recorded yet") {
		t.Error("nobody is told")
	}
}

// What keeps a job from its start is said with it, and logged once.
func TestStartThatCannotBeYetSaysWhy(t *testing.T) {
	r := newRig(t)
	const many = 1 << 30
	r.catalog.failed = make(chan struct{})
	set := func(fails int, notYet bool) {
		r.catalog.mu.Lock()
		defer r.catalog.mu.Unlock()
		r.catalog.fails, r.catalog.notYet = fails, notYet
	}
	waitsFor := func(what, holder string) func(record.Job) bool {
		return func(j record.Job) bool {
			w := j.WaitingOn
			return len(w) == 1 && w[0].For == what && w[0].Holder != nil && strings.HasPrefix(w[0].Holder.External, holder) && !w[0].Since.IsZero()
		}
	}
	t.Cleanup(func() { set(0, false) })
	set(many, false)
	id := r.submit(request(fakeHelper("short"))).ID
	r.until(id, waitsFor("space", "state directory: state cannot be written: disk is full"))
	for range 3 {
		select {
		case <-r.catalog.failed:
		case <-time.After(patience):
			t.Fatal("it is not tried again")
		}
	}
	set(0, true)
	r.until(id, waitsFor("hold", "not yet: pool p is away"))
	set(0, false)
	r.ended(id, record.Succeeded)
	if n := strings.Count(r.logged.String(), "job cannot start yet"); n != 2 {
		t.Errorf("logged %d times, want once for each reason:\n%s", n, r.logged)
	}
}

// An end that the catalog will never take does not keep the locks for ever.
func TestEndThatTheCatalogNeverTakes(t *testing.T) {
	r := newRig(t)
	r.catalog.broken = errors.New("no such kind of job")
	j := r.ended(r.submit(request(fakeHelper("short"))).ID, record.Failed)
	if j.Code() != record.Inconsistent || !strings.Contains(j.Error.Message, "ended as succeeded") || !strings.Contains(j.Error.Message, "no such kind") || len(j.Warnings) == 0 {
		t.Errorf("error %+v, warnings %q", j.Error, j.Warnings)
	}
	r.catalog.mu.Lock()
	r.catalog.broken = nil
	r.catalog.ended[j.ID] = 1 // as the rig wants it
	r.catalog.mu.Unlock()
	r.ended(r.submit(request(fakeHelper("short"))).ID, record.Succeeded) // the locks are free
}

func TestVerbsOnACanceledJobThatCannotBeRecorded(t *testing.T) {
	r := newRig(t)
	holder := r.submit(request(fakeHelper("work")))
	r.working(holder.ID)
	waits := r.submit(request(fakeHelper("work"))) // for the holder's locks
	r.catalog.mu.Lock()
	r.catalog.fails = 5
	r.catalog.mu.Unlock()
	if _, err := r.sup.Cancel(waits.ID, uid1000, false); err != nil {
		t.Fatal(err)
	}
	for _, verb := range []func(string, record.Owner) (record.Job, error){r.sup.Pause, r.sup.Resume} {
		if _, err := verb(waits.ID, uid1000); err != nil && record.CodeOf(err) != record.WrongState {
			t.Error(err)
		}
	}
	r.ended(waits.ID, record.Canceled)
	if _, err := r.sup.Cancel(holder.ID, uid1000, false); err != nil {
		t.Fatal(err)
	}
	r.ended(holder.ID, record.Canceled)
}

func TestPauseIsAwaitedForAWhile(t *testing.T) {
	r := newRig(t, func(tt *Times) {
		tt.PauseAck, tt.CancelAck, tt.GroupTerm = 50*time.Millisecond, 50*time.Millisecond, 50*time.Millisecond
	})
	good, deaf := request(fakeHelper("idle")), request(fakeHelper("ignoreTerm"), record.Object{Pool: "p", Volume: "w", Mode: record.ModeWrite})
	id := r.submit(good).ID
	r.working(id)
	other := r.submit(deaf).ID
	r.until(other, func(j record.Job) bool { return len(j.Warnings) > 0 })
	for _, id := range []string{id, other} {
		if _, err := r.sup.Pause(id, uid1000); err != nil {
			t.Fatal(err)
		}
	}
	r.sup.times.PauseAck = patience
	if j, err := r.sup.AwaitPaused(r.ctx(), id); err != nil || j.State != record.Paused {
		t.Errorf("acknowledged, it is %s (%v)", j.State, err)
	}
	r.sup.times.PauseAck = 50 * time.Millisecond
	if j, err := r.sup.AwaitPaused(r.ctx(), other); err != nil || j.State != record.Running || len(j.PauseReasons) != 1 {
		t.Errorf("of a deaf helper, it is %s for %q (%v)", j.State, j.PauseReasons, err)
	}
	if j, err := r.sup.AwaitPaused(r.ctx(), "77"); record.CodeOf(err) != record.NotFound {
		t.Errorf("no job at all: %+v, %v", j, err)
	}
}
