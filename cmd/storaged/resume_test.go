package main_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"storaged/cmd/internal/cmdline"
	"storaged/internal/record"
	"storaged/internal/service"
	"storaged/internal/testenv"
)

// marked waits until a job's helper has made a checkpoint.
func (h *host) marked(st service.Started, err error) record.Job {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
	path := filepath.Join(h.dir, "state", "jobs", st.Job.ID, "checkpoint")
	late := time.After(patience)
	for look := time.NewTicker(10 * time.Millisecond); ; { // a file has no event for being there
		if _, err := os.Stat(path); err == nil {
			break
		}
		select {
		case <-look.C:
		case <-late:
			h.t.Fatalf("no checkpoint\n%s", h.log())
		}
	}
	j, err := h.client.Job(h.ctx(), st.Job.ID)
	if err != nil {
		h.t.Fatal(err)
	}
	return j
}

// killHelper kills the helper of a job that has made a checkpoint.
func (h *host) killHelper(j record.Job) {
	h.t.Helper()
	if err := syscall.Kill(j.Helper.PID, syscall.SIGKILL); err != nil {
		h.t.Fatal(err)
	}
}

// unlimit lets a job run as fast as it can.
func (h *host) unlimit(j record.Job) {
	h.t.Helper()
	if _, err := h.client.PatchJob(h.ctx(), j.ID, service.JobPatch{Limit: []byte("null")}); err != nil {
		h.t.Fatal(err)
	}
}

func TestWipeGoesOnAfterItsHelperWasKilled(t *testing.T) {
	t.Parallel() // waits for the clock most of the time
	h := newHost(t)
	h.random("a", 64*mib)
	st, err := h.wipe("a", service.VolumeWipe{AcceptLimits: true, JobOptions: limited(8 * mib)})
	before := h.marked(st, err)
	h.killHelper(before)
	h.unlimit(before)
	j := h.succeed(st, nil)
	if j.Resumed != 1 || j.Number != before.Number || len(j.Warnings) == 0 || !strings.Contains(j.Warnings[0], "SIGKILL") {
		t.Errorf("%+v", j)
	}
	// What the first helper had written behind its checkpoint may be written twice.
	if n := *j.Stats.BytesWritten; n < 64*mib || n > 80*mib {
		t.Errorf("%d bytes were written of a volume of %d", n, 64*mib)
	}
	if b, err := os.ReadFile(h.path("a")); err != nil || strings.Trim(string(b), "\x00") != "" {
		t.Errorf("the volume is not zero (%v)", err)
	}
	if v, err := h.client.Volume(h.ctx(), "pool", "a"); err != nil || v.State != record.VolumeReady {
		t.Errorf("the volume is %+v (%v)", v, err)
	}
}

// interruptedWipe leaves a wipe of a random volume "a" that failed because its
// helper was killed.
func (h *host) interruptedWipe() record.Job {
	h.t.Helper()
	h.random("a", 64*mib)
	st, err := h.wipe("a", service.VolumeWipe{AcceptLimits: true, JobOptions: limited(8 * mib)})
	h.killHelper(h.marked(st, err))
	j := h.end(st, nil)
	if j.State != record.Failed || j.Resumable == nil || j.Resumable.Done < 2*mib {
		h.t.Fatalf("%+v, resumable %+v, error %+v", j, j.Resumable, j.Error)
	}
	return j
}

// retried retries a job and lets it run as fast as it can.
func (h *host) retried(j record.Job) record.Job {
	h.t.Helper()
	st, err := h.client.RetryJob(h.ctx(), service.Submit{}, j.ID)
	if err == nil {
		h.unlimit(*st.Job)
	}
	return h.succeed(st, err)
}

// A retry must not take for wiped what somebody wrote after the first job broke
// off, nor may the retry of one that found that out and broke off in turn.
func TestRetriedWipeWipesWhatWasWrittenMeanwhile(t *testing.T) {
	t.Parallel() // waits for the clock most of the time
	h := configured(t, "[resume]\nwipe = \"keep\"\n")
	first := h.interruptedWipe()
	secret, content := h.given("secret", 2*mib)
	at := first.Resumable.Done - 2*mib // where the first one was last
	st, err := h.hand("a", secret, service.VolumeUpload{Offset: at})
	h.succeed(st, err)
	h.holds("a", int(at), content, record.VolumeIncomplete)

	st, err = h.client.RetryJob(h.ctx(), service.Submit{}, first.ID)
	if err != nil {
		t.Fatal(err)
	}
	h.killHelper(h.running(st))
	second := h.end(st, nil)
	if second.State != record.Failed || len(second.Warnings) == 0 || !strings.Contains(second.Warnings[0], "begun anew") {
		t.Fatalf("%+v, error %+v", second, second.Error)
	}
	h.retried(second)
	h.holds("a", 0, make([]byte, 64*mib), record.VolumeReady)
}

func TestRetriedWipeGoesOnAfterWhatChangesNoContent(t *testing.T) {
	t.Parallel() // waits for the clock most of the time
	h := configured(t, "[resume]\nwipe = \"keep\"\n")
	first := h.interruptedWipe()
	said := "half wiped"
	if _, err := h.client.PatchVolume(h.ctx(), service.Submit{}, "pool", "a", service.VolumePatch{Description: &said}); err != nil {
		t.Fatal(err)
	}
	if err := h.refresh("pool"); err != nil {
		t.Fatal(err)
	}
	if j := h.retried(first); len(j.Warnings) > 0 || *j.Stats.BytesWritten > 64*mib-first.Resumable.Done {
		t.Errorf("%+v, stats %+v", j, j.Stats)
	}
	h.holds("a", 0, make([]byte, 64*mib), record.VolumeReady)
}

// interruptedClone leaves a clone that failed because its helper was killed.
func (h *host) interruptedClone() record.Job {
	h.t.Helper()
	h.random("base", 64*mib)
	st, err := h.client.Start(h.ctx(), service.Submit{}, record.VolumeClone, on("pool", "base"),
		service.VolumeClone{Name: "copy", Reflink: "never", JobOptions: limited(2 * mib)})
	h.killHelper(h.marked(st, err))
	j := h.end(st, nil)
	if j.State != record.Failed || j.Resumable == nil || j.Rollback != record.RollbackKept || !strings.Contains(cmdline.Hint(j.Error.Hint), "job retry") {
		h.t.Fatalf("%+v, resumable %+v, error %+v", j, j.Resumable, j.Error)
	}
	if _, err := h.client.Volume(h.ctx(), "pool", "copy"); record.CodeOf(err) != record.NotFound {
		h.t.Errorf("the volume is in the catalogue (%v)", err)
	}
	return j
}

func (h *host) drafts() []string {
	found, _ := filepath.Glob(filepath.Join(h.pool, ".*.storaged"))
	return found
}

func TestRetryOfACloneGoesOnWhereItWasInterrupted(t *testing.T) {
	t.Parallel() // waits for the clock most of the time
	h := newHost(t)
	first := h.interruptedClone()
	if len(h.drafts()) != 1 {
		t.Fatalf("left: %v", h.drafts())
	}
	h.stop()
	h.start() // it is still there for the next daemon
	st, err := h.client.RetryJob(h.ctx(), service.Submit{}, first.ID)
	if err == nil {
		h.unlimit(*st.Job)
	}
	j := h.succeed(st, err)
	if h.hash("copy") != h.hash("base") {
		t.Error("the clone differs from its source")
	}
	if j.RetryFrom == nil || *j.RetryFrom != *first.Resumable {
		t.Errorf("it went on from %+v, not %+v", j.RetryFrom, first.Resumable)
	}
	if *j.RetryOf != first.Number || len(j.Warnings) > 0 || *j.Stats.BytesWritten > 64*mib-first.Resumable.Done {
		t.Errorf("%+v, stats %+v", j, j.Stats)
	}
	if first, err = h.client.Job(h.ctx(), first.ID); err != nil || first.Resumable != nil {
		t.Errorf("the first one can be resumed still: %+v (%v)", first.Resumable, err)
	}
}

// reboot ends the daemon and all helpers at once, as a host does that is reset,
// and starts the daemon in another boot.
func (h *host) reboot() {
	h.t.Helper()
	h.kill()
	for _, pid := range h.processes() {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			h.t.Fatal(err)
		}
	}
	h.await("the end of all helpers", func() bool { return len(h.processes()) == 0 })
	if err := os.RemoveAll(filepath.Join(h.dir, "run")); err != nil {
		h.t.Fatal(err)
	}
	h.newBoot()
	h.start()
}

func (h *host) newBoot() {
	h.t.Helper()
	if err := os.WriteFile(h.boot, []byte(uuid.NewString()+"\n"), 0o644); err != nil {
		h.t.Fatal(err)
	}
}

// newBootHost is newHost on a host that can be rebooted.
func newBootHost(t *testing.T) *host {
	t.Helper()
	h := bootHost(t)
	h.begin()
	return h
}

// bootHost is a host that can be rebooted, before its daemon was started.
func bootHost(t *testing.T) *host {
	t.Helper()
	testenv.Root(t)
	dir := t.TempDir()
	h := &host{t: t, dir: dir, bin: bin, pool: filepath.Join(dir, "pool"), sock: filepath.Join(dir, "s"), boot: filepath.Join(dir, "boot_id")}
	h.newBoot()
	return h
}

// After a reboot a pool without autostart is not started. Jobs on it wait until
// somebody starts it: one that was interrupted goes on then, one that had waited
// begins.
func TestInterruptedJobWaitsUntilItsPoolIsStarted(t *testing.T) {
	t.Parallel() // waits for the clock most of the time
	h := newBootHost(t)
	if _, err := h.client.PatchPool(h.ctx(), service.Submit{}, "pool", service.PoolPatch{Autostart: new(false)}); err != nil {
		t.Fatal(err)
	}
	h.random("a", 64*mib)
	st, err := h.wipe("a", service.VolumeWipe{AcceptLimits: true, JobOptions: limited(8 * mib)})
	before := h.marked(st, err)
	behind, err := h.wipe("a", service.VolumeWipe{AcceptLimits: true})
	if err != nil {
		t.Fatal(err)
	}
	h.reboot()
	waiting := func(id string) (j record.Job) {
		h.await("a job that waits for its pool", func() bool {
			j, err = h.client.Job(h.ctx(), id)
			return err == nil && j.State == record.Queued && len(j.WaitingOn) > 0 && j.WaitingOn[0].Holder != nil &&
				strings.Contains(j.WaitingOn[0].Holder.External, `pool "pool" was not started since the host was`)
		})
		return j
	}
	if j := waiting(st.Job.ID); j.Number != before.Number || j.Resumed != 1 || !mentions(j.Warnings, "goes on at") {
		t.Errorf("%+v", j)
	}
	waiting(behind.Job.ID)
	h.reboot() // it is no use, and does not count
	if j := waiting(st.Job.ID); j.Resumed != 1 {
		t.Errorf("%+v", j)
	}
	h.must(os.Rename(h.pool, h.pool+".away"))
	start, err := h.client.Start(h.ctx(), service.Submit{}, record.PoolStart, on("pool"), service.JobOptions{})
	if j := h.end(start, err); j.State != record.Failed {
		t.Errorf("a pool without its directory was started: %+v", j)
	}
	waiting(st.Job.ID)
	waiting(behind.Job.ID)
	h.must(os.Rename(h.pool+".away", h.pool))
	start, err = h.client.Start(h.ctx(), service.Submit{}, record.PoolStart, on("pool"), service.JobOptions{})
	h.succeed(start, err)
	h.unlimit(before)
	if j := h.succeed(st, nil); j.Resumed != 1 || *j.Stats.BytesWritten > 80*mib {
		t.Errorf("%+v, stats %+v", j, j.Stats)
	}
	h.succeed(behind, nil)
	h.holds("a", 0, make([]byte, 64*mib), record.VolumeReady)
}

func TestWhatIsLeftForARetryGoesWithItsJob(t *testing.T) {
	t.Parallel() // waits for the clock most of the time
	h := newHost(t)
	j := h.interruptedClone()
	refresh := func() {
		t.Helper()
		st, err := h.client.Start(h.ctx(), service.Submit{}, record.PoolRefresh, on("pool"), service.JobOptions{})
		h.succeed(st, err)
	}
	refresh()
	if len(h.drafts()) != 1 {
		t.Errorf("left while a retry may use it: %v", h.drafts())
	}
	if _, err := h.client.ForgetJob(h.ctx(), j.ID); err != nil {
		t.Fatal(err)
	}
	refresh() // if the one that forgetting began has not done it yet
	if len(h.drafts()) != 0 {
		t.Errorf("left of a forgotten job: %v", h.drafts())
	}
}
