package main_test

import (
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"storaged/internal/record"
	"storaged/internal/service/contract"
)

const mib = 1 << 20

func TestCloneIsIdenticalAndItsSourceUntouched(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	want := h.random("base", 64*mib)
	h.define("other", h.dir+"/pool-other")
	j := h.succeed(h.clone("base", "other/copy", noReflink))
	if got := h.hash("../pool-other/copy"); got != want {
		t.Errorf("the clone's hash is %s, the source's was %s", got, want)
	}
	if got := h.hash("base"); got != want {
		t.Errorf("the source's hash is %s, it was %s", got, want)
	}
	if j.Result == nil || j.Result.Pool != "other" || j.Result.Volume != "copy" || j.Result.Capacity != 64*mib {
		t.Errorf("result is %s", shown(j.Result))
	}
	if *j.Progress.Percent != 100 || j.Progress.Done != j.Progress.Total {
		t.Errorf("progress at the end is %s", shown(j.Progress))
	}
	h.is("other/copy", record.Volume{State: record.VolumeReady, Origin: record.Made, CreatedBy: &j.Number})
}

// follow reads a job until it has moved so often, or to its end where that is less,
// and holds what progress promises.
func (h *host) follow(st started, moves int) {
	h.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	percent, done := -1.0, int64(-1)
	for ; moves >= 0; <-tick.C {
		j := h.job(st)
		p := j.Progress
		if p.Percent != nil {
			if *p.Percent < percent {
				h.t.Errorf("percent fell from %v to %v", percent, *p.Percent)
			}
			if *p.Percent > 99.9 && !j.State.Terminal() {
				h.t.Errorf("%v %% of a job that is %s", *p.Percent, j.State)
			}
			percent = *p.Percent
		}
		if p.Done < done {
			h.t.Errorf("done fell from %d to %d", done, p.Done)
		}
		if p.Done > done {
			moves--
		}
		if done = p.Done; j.State.Terminal() {
			return
		}
	}
}

// Progress moves while the work goes on, not only at its end, and never falls.
func TestProgressMovesAndNeverFalls(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.random("base", 32*mib)
	for _, start := range []func() (started, error){
		func() (started, error) {
			return h.clone("base", "copy", noReflink, limited(mib/2))
		},
		func() (started, error) {
			return h.wipe("base", limited(mib/2))
		},
	} {
		st := must(start())(t)
		h.follow(st, 4)
		if j := h.job(st); j.State.Terminal() {
			t.Errorf("%s moved only at its end: %s", j.Kind, outcome(j))
		}
		must(h.client.PatchJob(h.ctx(), st.Job.ID, contract.JobPatch{Limit: []byte("null")}))(t)
		h.follow(st, math.MaxInt)
		h.succeed(st, nil)
	}
}

// cancelPromise is how long a cancel may take until the I/O has stopped.
const cancelPromise = 2 * time.Second

func TestCancelAtRandomMomentsLeavesNothing(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	want := h.random("base", 32*mib)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for range 20 {
		st := h.began(h.clone("base", "copy", noReflink, limited(16*mib))) // for two seconds
		moment := time.Duration(random.Int64N(int64(time.Second)))
		<-time.After(moment)
		asked := time.Now()
		if _, err := h.client.CancelJob(h.ctx(), st.Job.ID, contract.JobCancel{}); err != nil {
			t.Fatalf("cancel after %v: %v", moment, err)
		}
		j := h.end(st, nil)
		if took := time.Since(asked); took > cancelPromise && !raceEnabled {
			t.Errorf("cancel after %v took %v", moment, took)
		}
		if j.State != record.Canceled {
			t.Errorf("after %v: state %s", moment, outcome(j))
		}
		h.absent("copy")
		if left := h.processes(); len(left) > 0 {
			t.Errorf("after %v: processes %v are left", moment, left)
		}
	}
	h.hasHash("base", want)
}

// moves tells of a job whose helper has moved data.
func moves(j record.Job) bool { return j.State == record.Running && j.Progress.Done > 0 }

// running waits until a job moves data.
func (h *host) running(st started) record.Job {
	h.t.Helper()
	return h.until(st.Job.ID, moves)
}

func TestKilledHelperFailsItsJobAndIsUndone(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.random("base", 32*mib)
	st := h.began(h.clone("base", "copy", noReflink, limited(8*mib)))
	j := h.running(st)
	h.must(syscall.Kill(j.Helper.PID, syscall.SIGKILL))
	j = h.end(st, nil)
	if j.State != record.Failed || j.Error == nil || j.Error.Code != record.Killed || !strings.Contains(j.Error.Message, "SIGKILL") && !strings.Contains(j.Error.Message, "killed") {
		t.Errorf("state %s", outcome(j))
	}
	if j.Rollback != record.RollbackDone {
		t.Errorf("rollback is %q", j.Rollback)
	}
	h.absent("copy")
}

func TestKilledWipeLeavesItsVolumeMarked(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.random("base", 32*mib)
	st := h.began(h.wipe("base", limited(8*mib)))
	j := h.running(st)
	if _, err := h.client.CancelJob(h.ctx(), j.ID, contract.JobCancel{Now: true}); err != nil { // else the wipe would go on
		t.Fatal(err)
	}
	h.jobIs(h.end(st, nil), record.Job{State: record.Canceled, Rollback: record.RollbackKept})
	v, err := h.client.Volume(h.ctx(), "pool", "base")
	if err != nil || v.State != record.VolumeIncomplete || v.Job == nil || *v.Job != j.Number {
		t.Fatalf("the volume is %s (%v)", shown(v), err)
	}
	h.refuses(record.WrongState)(h.clone("base", "copy"))
	h.succeed(h.wipe("base"))
	h.is("base", record.Volume{State: record.VolumeReady})
}

func TestPausedJobDoesNoIO(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.random("base", 32*mib)
	st := h.began(h.clone("base", "copy", noReflink, limited(8*mib)))
	j := h.running(st)
	h.pause(st)
	before, done := ioOf(t, j.Helper.PID), h.job(st).Progress.Done
	<-time.After(time.Second)
	after := ioOf(t, j.Helper.PID)
	for name, most := range map[string]int64{"read_bytes": 0, "write_bytes": 0, "rchar": wordsOfAPausedHelper, "wchar": wordsOfAPausedHelper} {
		if moved := after[name] - before[name]; moved > most {
			t.Errorf("a paused helper moved %d bytes of %s", moved, name)
		}
	}
	if now := h.job(st); now.Progress.Done != done || !now.Cancelable {
		t.Errorf("done %d, was %d; cancelable %v", now.Progress.Done, done, now.Cancelable)
	}
	h.resume(of(j))
	h.unlimit(of(j))
	h.succeed(st, nil)
}

// wordsOfAPausedHelper is more than it says in a second, in bytes: that it lives,
// by a frame of some ten bytes every two seconds. The smallest step of a copy at
// the rate of these tests is a hundred times as large.
const wordsOfAPausedHelper = 1024

// ioOf gives the figures of /proc/PID/io (proc_pid_io(5)).
func ioOf(t *testing.T, pid int) map[string]int64 {
	t.Helper()
	b, err := os.ReadFile("/proc/" + itoa(pid) + "/io")
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]int64{}
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		if counts[name], err = strconv.ParseInt(value, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	return counts
}

// A paused job can be canceled, and is undone.
func TestPausedJobIsCanceled(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.random("base", 16*mib)
	clone := h.slowClone("copy")
	h.pause(clone)
	h.cancel(clone)
	h.jobIs(h.end(clone, nil), record.Job{State: record.Canceled, Rollback: record.RollbackDone})
	h.absent("copy")
}

func TestUnfinishedVolumeIsKeptWhereThatIsAskedFor(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	ctx := h.ctx()
	h.random("base", 32*mib)
	keep := onFailure(record.KeepOnFailure)
	st := h.began(h.clone("base", "copy", noReflink, keep, limited(8*mib)))
	h.running(st)
	h.cancel(st)
	j := h.end(st, nil)
	if j.State != record.Canceled || j.Rollback != record.RollbackKept {
		t.Errorf("%s, rollback %s, %s", j.State, j.Rollback, outcome(j))
	}
	if _, err := os.Stat(h.path("copy")); err != nil {
		t.Error(err)
	}
	incomplete := func() {
		t.Helper()
		v, err := h.client.Volume(ctx, "pool", "copy")
		if err != nil || v.State != record.VolumeIncomplete || v.Job == nil || *v.Job != j.Number || v.Allocation == 0 {
			t.Errorf("the catalog has %s (%v)", shown(v), err)
		}
	}
	incomplete()
	h.succeed(h.refreshPool("pool"))
	incomplete()
	h.refuses(record.WrongState)(h.clone("copy", "again"))
	h.succeed(h.remove("copy"))
	h.absent("copy")

	h.refuses(record.Invalid, "volume.wipe")(h.wipe("base", keep, limited(8*mib)))
}
