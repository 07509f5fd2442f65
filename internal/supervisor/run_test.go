package supervisor

import (
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"storaged/internal/ipc"
	"storaged/internal/record"
)

func TestGoodHelperSucceeds(t *testing.T) {
	r := newRig(t)
	j := r.submit(request(fakeHelper("short")))
	if j.State != record.Queued && j.State != record.Starting || j.Number != 1 {
		t.Errorf("submitted as number %d, %s", j.Number, j.State)
	}
	j = r.ended(j.ID, record.Succeeded)
	if j.Progress.Percent == nil || *j.Progress.Percent != 100 || j.Progress.Done != 1000 || j.Progress.Total != 1000 {
		t.Errorf("progress is %+v", j.Progress)
	}
	if j.Result == nil || j.Result.Volume != "v" || j.Result.Method != "copy" {
		t.Errorf("result is %+v", j.Result)
	}
	if j.Stats == nil || *j.Stats.MaxRSSBytes != 12<<20 || j.Helper == nil || j.Helper.Version != "test" || j.Helper.Argv[0] != "storage-helper" {
		t.Errorf("stats %+v, helper %+v", j.Stats, j.Helper)
	}
	if j.Started == nil || j.Ended == nil || j.ElapsedS <= 0 || len(j.Warnings) > 0 {
		t.Errorf("times %v %v %v, warnings %q", j.Started, j.Ended, j.ElapsedS, j.Warnings)
	}
}

func TestBadHelpers(t *testing.T) {
	short := func(tt *Times) { tt.Linger, tt.Hello = 50*time.Millisecond, 300*time.Millisecond }
	impatient := func(tt *Times) { tt.CancelAck, tt.GroupTerm = 50*time.Millisecond, 50*time.Millisecond }
	cases := []struct {
		name     string
		argv     []string
		undo     []string
		change   func(*Times)
		state    record.State
		code     record.Code
		says     string // in the error or a warning
		rollback record.Rollback
	}{
		{name: "hangs before HELLO", argv: fakeHelper("hangBeforeHello"), change: short, state: record.Failed, code: record.Internal, says: "did not say HELLO", rollback: record.RollbackNone},
		{name: "never says HELLO", argv: fakeHelper("silent"), change: short, state: record.Failed, code: record.Internal, says: "did not say HELLO", rollback: record.RollbackNone},
		{name: "leaves a grandchild with lock and FIFO", argv: fakeHelper("leaveOrphan"), state: record.Succeeded, rollback: record.RollbackNone},
		{name: "half a frame, then exit", argv: fakeHelper("halfFrame"), undo: fakeHelper("undo"), state: record.Failed, code: record.Internal, says: "exit status 3", rollback: record.RollbackDone},
		{name: "garbage", argv: fakeHelper("garbage"), state: record.Failed, code: record.Internal, says: "broke the protocol", rollback: record.RollbackDone},
		{name: "huge header", argv: fakeHelper("hugeHeader"), state: record.Failed, code: record.Internal, says: "broke the protocol", rollback: record.RollbackDone},
		{name: "negative progress", argv: fakeHelper("negative"), state: record.Failed, code: record.Internal, says: "broke the protocol", rollback: record.RollbackDone},
		{name: "exit 0 without result", argv: fakeHelper("exitWithout", "0"), undo: fakeHelper("undo"), state: record.Failed, code: record.Inconsistent, says: "no result", rollback: record.RollbackDone},
		{name: "exit 0 without result, nothing to undo", argv: fakeHelper("exitWithout", "0"), state: record.Failed, code: record.Inconsistent, says: "no result", rollback: record.RollbackNone},
		{name: "exit 2 without result", argv: fakeHelper("exitWithout", "2"), undo: fakeHelper("undo"), state: record.Failed, code: record.Internal, says: "exit status 2", rollback: record.RollbackDone},
		{name: "died after its commit", argv: fakeHelper("exitWithout", "2"), undo: fakeHelper("settleCommitted"), state: record.Succeeded, says: "died after its work was complete", rollback: record.RollbackNone},
		{name: "cannot be undone", argv: fakeHelper("exitWithout", "2"), undo: fakeHelper("undoFails"), state: record.Failed, code: record.Interrupted, says: "undoing it failed: cannot remove it", rollback: record.RollbackFailed},
		{name: "the undoing helper dies too", argv: fakeHelper("exitWithout", "2"), undo: fakeHelper("exitWithout", "5"), state: record.Failed, code: record.Interrupted, says: "exit status 5", rollback: record.RollbackFailed},
		{name: "exit 1 with a success", argv: fakeHelper("exitOneSuccess"), undo: fakeHelper("undo"), state: record.Failed, code: record.Inconsistent, says: "exit status 1", rollback: record.RollbackNone},
		{name: "floods progress", argv: fakeHelper("flood"), state: record.Succeeded, rollback: record.RollbackNone},
		{name: "reports, then hangs", argv: fakeHelper("reportThenHang"), change: func(tt *Times) { tt.Linger = 50 * time.Millisecond }, state: record.Succeeded, says: "killed by SIGKILL after", rollback: record.RollbackNone},
		{name: "another job's HELLO", argv: fakeHelper("wrongJob"), state: record.Failed, code: record.Internal, says: `runs job "another"`, rollback: record.RollbackNone},
		{name: "another protocol", argv: fakeHelper("wrongProto"), state: record.Failed, code: record.Internal, says: "9.9", rollback: record.RollbackNone},
		{name: "a newer protocol, and ours", argv: fakeHelper("speaks", proto(ipc.Proto+1), proto(ipc.Proto), proto(ipc.Proto)), state: record.Succeeded, rollback: record.RollbackNone},
		{name: "stopped from outside before GO", argv: fakeHelper("mute", "canceled"), state: record.Canceled, code: record.CanceledCode, rollback: record.RollbackNone},
		{name: "stopped from outside, not heard", argv: fakeHelper("mute", "canceled", "go"), state: record.Canceled, code: record.CanceledCode, rollback: record.RollbackNone},
		{name: "success before GO", argv: fakeHelper("mute", "succeeded"), state: record.Failed, code: record.Inconsistent, says: "before it was told to begin", rollback: record.RollbackNone},
		{name: "reports a failure", argv: fakeHelper("fail"), state: record.Failed, code: record.NoSpace, says: "no space left", rollback: record.RollbackDone},
		{name: "torn result", argv: fakeHelper("torn"), undo: fakeHelper("undo"), state: record.Failed, code: record.Inconsistent, says: "cannot read result", rollback: record.RollbackDone},
	}
	fakeHelper("orphan") // played by a child of leaveOrphan
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			change := []func(*Times){}
			if c.change != nil {
				change = append(change, c.change, impatient)
			}
			r := newRig(t, change...)
			req := request(c.argv)
			req.UndoArgv = c.undo
			j := r.ended(r.submit(req).ID, c.state)
			if j.Code() != c.code || j.Rollback != c.rollback {
				t.Errorf("error is %+v, rollback %s, want %s, %s", j.Error, j.Rollback, c.code, c.rollback)
			}
			text := strings.Join(j.Warnings, "\n")
			if j.Error != nil {
				text += "\n" + j.Error.Message
			}
			if !strings.Contains(text, c.says) {
				t.Errorf("error and warnings are %q, want %q in them", text, c.says)
			}
		})
	}
}

func TestKilledHelperIsUndoneAndSaysSo(t *testing.T) {
	r := newRig(t)
	id := r.submit(request(fakeHelper("work"))).ID
	before := r.working(id)
	if err := syscall.Kill(before.Helper.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	j := r.ended(id, record.Failed)
	if j.Code() != record.Killed || !strings.Contains(j.Error.Message, "SIGKILL") || j.Rollback != record.RollbackDone {
		t.Errorf("ended with %+v, rollback %s", j.Error, j.Rollback)
	}
	if *j.Progress.Percent >= 100 {
		t.Errorf("percent of a failed job is %v", *j.Progress.Percent)
	}
	checkFirstHelper(t, before, j)
}

// checkFirstHelper holds that the record of a job whose helper died is that of
// this helper and not of the one that settled the job.
func checkFirstHelper(t *testing.T, before, j record.Job) {
	t.Helper()
	if !reflect.DeepEqual(j.Helper, before.Helper) {
		t.Errorf("helper is %+v, was %+v", j.Helper, before.Helper)
	}
	if j.Phase == nil || j.Phase.Name != "copy" || j.Phase.Count != 3 || j.Progress.Done < before.Progress.Done || j.Progress.Total != before.Progress.Total {
		t.Errorf("phase %+v, progress %+v, was %+v", j.Phase, j.Progress, before.Progress)
	}
	if j.Stats == nil || *j.Stats.BytesWritten != j.Progress.Done || *j.Stats.BytesRead != 0 || j.Stats.BytesHoles != nil || len(j.Stats.Phases) > 0 {
		t.Errorf("stats are %+v", j.Stats)
	}
	if !slices.Contains(j.Warnings, "something of it is left") {
		t.Errorf("the settling helper's warning is not kept: %q", j.Warnings)
	}
}

func TestMissingHelperBinaryFailsTheJob(t *testing.T) {
	r := stillRig(t, t.TempDir())
	r.cfg.Helper = "/nonexistent/storage-helper"
	r.sup = New(r.cfg, r.store, r.catalog, r.hub)
	r.start()
	j := r.ended(r.submit(request(fakeHelper("short"))).ID, record.Failed)
	if j.Code() != record.Internal || !strings.Contains(j.Error.Message, "/nonexistent/storage-helper") {
		t.Errorf("error is %+v", j.Error)
	}
}

func TestCatalogMayRefuseAtTheGrant(t *testing.T) {
	r := newRig(t)
	r.catalog.refuse = record.Errorf(record.Exists, "volume exists")
	j := r.ended(r.submit(request(fakeHelper("short"))).ID, record.Failed)
	if j.Code() != record.Exists || j.Helper != nil || j.Started != nil {
		t.Errorf("ended with %+v, helper %+v", j.Error, j.Helper)
	}
}

func TestProgressNeverFallsAndIsBelow100UntilTheEnd(t *testing.T) {
	r := newRig(t)
	ctx := r.ctx()
	stream := r.hub.Subscribe(ctx, 0)
	id := r.submit(request(fakeHelper("flood"))).ID
	last, told := -1.0, 0
	for e := range stream {
		if e.Job == nil || e.Job.ID != id {
			continue
		}
		if e.Type == "job.ended" {
			if *e.Job.Progress.Percent != 100 {
				t.Errorf("ended with %v %%", *e.Job.Progress.Percent)
			}
			break
		}
		if p := e.Job.Progress.Percent; p != nil {
			told++
			if *p < last || *p > 99.9 {
				t.Errorf("percent went from %v to %v", last, *p)
			}
			last = *p
		}
	}
	if told == 0 {
		t.Error("no progress was told")
	}
}

func TestLogIsKeptAndBounded(t *testing.T) {
	r := newRig(t)
	j := r.ended(r.submit(request(fakeHelper("chatty"))).ID, record.Succeeded)
	path, err := r.sup.LogPath(j.ID)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// The last words may have come while the tail was being put back.
	if len(b) > maxLog+keptLog || !strings.Contains(string(b), "last words\n") || !strings.Contains(string(b), "… older lines are cut …\n") {
		t.Errorf("log has %d bytes, %.40q … %.40q", len(b), b, b[max(0, len(b)-40):])
	}
	if len(j.Warnings) != 1 || j.Warnings[0] != "the source has holes" {
		t.Errorf("warnings are %q", j.Warnings)
	}
	if !strings.Contains(r.logged.String(), "a line of the helper") {
		t.Error("the helper's line is not in the daemon's log")
	}
}

func TestHelperGetsACleanEnvironment(t *testing.T) {
	t.Setenv("SECRET_OF_THE_DAEMON", "x")
	r := newRig(t)
	id := r.submit(request(fakeHelper("work"))).ID
	j := r.working(id)
	env, err := os.ReadFile("/proc/" + itoa(j.Helper.PID) + "/environ")
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range strings.Split(strings.TrimRight(string(env), "\x00"), "\x00") {
		name, _, _ := strings.Cut(v, "=")
		if !strings.HasPrefix(name, "STORAGED_JOB") && !strings.Contains("PATH LANG HOME GORACE GOCOVERDIR", name) {
			t.Errorf("helper inherits %q", v)
		}
	}
	if got := fdsOf(t, j.Helper.PID); strings.Contains(got, r.dir+"/state/db") {
		t.Errorf("helper inherits the database: %s", got)
	}
}

// proto is a protocol version on a command line.
func proto(n int) string { return strconv.Itoa(n) }
