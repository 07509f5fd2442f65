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
	"storaged/internal/service/contract"
	"storaged/internal/testenv"
)

// marked waits until a job's helper has made a checkpoint.
func (h *host) marked(st started, err error) record.Job {
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
	j := h.job(st)
	return j
}

// killHelper kills the helper of a job that has made a checkpoint.
func (h *host) killHelper(j record.Job) {
	h.t.Helper()
	h.must(syscall.Kill(j.Helper.PID, syscall.SIGKILL))
}

func TestWipeGoesOnAfterItsHelperWasKilled(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.random("a", 64*mib)
	st, err := h.wipe("a", acceptLimits, limited(8*mib))
	before := h.marked(st, err)
	h.killHelper(before)
	h.unlimit(of(before))
	j := h.succeed(st, nil)
	if j.Resumed != 1 || j.Number != before.Number || len(j.Warnings) == 0 || !strings.Contains(j.Warnings[0], "SIGKILL") {
		t.Error(outcome(j))
	}
	// What the first helper had written behind its checkpoint may be written twice.
	if n := *j.Stats.BytesWritten; n < 64*mib || n > 80*mib {
		t.Errorf("%d bytes were written of a volume of %d", n, 64*mib)
	}
	if b, err := os.ReadFile(h.path("a")); err != nil || strings.Trim(string(b), "\x00") != "" {
		t.Errorf("the volume is not zero (%v)", err)
	}
	h.is("a", record.Volume{State: record.VolumeReady})
}

// interruptedWipe leaves a wipe of a random volume "a" that failed because its
// helper was killed.
func (h *host) interruptedWipe() record.Job {
	h.t.Helper()
	h.random("a", 64*mib)
	st, err := h.wipe("a", acceptLimits, limited(8*mib))
	h.killHelper(h.marked(st, err))
	j := h.end(st, nil)
	if j.State != record.Failed || j.Resumable == nil || j.Resumable.Done < 2*mib {
		h.t.Fatal(outcome(j))
	}
	return j
}

// retried retries a job and lets it run as fast as it can.
func (h *host) retried(j record.Job) record.Job {
	h.t.Helper()
	st, err := h.retry(j)
	if err == nil {
		h.unlimit(st)
	}
	return h.succeed(st, err)
}

// A retry must not take for wiped what somebody wrote after the first job broke
// off, nor may the retry of one that found that out and broke off in turn.
func TestRetriedWipeWipesWhatWasWrittenMeanwhile(t *testing.T) {
	t.Parallel()
	h := configured(t, "[resume]\nwipe = \"keep\"\n")
	first := h.interruptedWipe()
	secret, content := h.given("secret", 2*mib)
	at := first.Resumable.Done - 2*mib // where the first one was last
	h.succeed(h.hand("a", secret, offset(at)))
	h.holds("a", int(at), content, record.VolumeIncomplete)

	st := h.began(h.retry(first))
	h.killHelper(h.running(st))
	second := h.end(st, nil)
	if second.State != record.Failed || len(second.Warnings) == 0 || !strings.Contains(second.Warnings[0], "begun anew") {
		t.Fatal(outcome(second))
	}
	h.retried(second)
	h.holds("a", 0, make([]byte, 64*mib), record.VolumeReady)
}

func TestRetriedWipeGoesOnAfterWhatChangesNoContent(t *testing.T) {
	t.Parallel()
	h := configured(t, "[resume]\nwipe = \"keep\"\n")
	first := h.interruptedWipe()
	h.describe("a", "half wiped")
	h.must(h.refresh("pool"))
	if j := h.retried(first); len(j.Warnings) > 0 || *j.Stats.BytesWritten > 64*mib-first.Resumable.Done {
		t.Errorf("%s, stats %s", outcome(j), shown(j.Stats))
	}
	h.holds("a", 0, make([]byte, 64*mib), record.VolumeReady)
}

// interruptedClone leaves a clone that failed because its helper was killed.
func (h *host) interruptedClone() record.Job {
	h.t.Helper()
	h.random("base", 64*mib)
	st, err := h.clone("base", "copy", noReflink, limited(2*mib))
	h.killHelper(h.marked(st, err))
	j := h.end(st, nil)
	if j.State != record.Failed || j.Resumable == nil || j.Rollback != record.RollbackKept || !strings.Contains(cmdline.Hint(j.Error.Hint), "job retry") {
		h.t.Fatal(outcome(j))
	}
	h.unknown("copy")
	return j
}

func (h *host) drafts() []string {
	found, _ := filepath.Glob(filepath.Join(h.pool, ".*.storaged"))
	return found
}

func TestRetryOfACloneGoesOnWhereItWasInterrupted(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	first := h.interruptedClone()
	if len(h.drafts()) != 1 {
		t.Fatalf("left: %v", h.drafts())
	}
	h.stop()
	h.start() // it is still there for the next daemon
	st, err := h.retry(first)
	if err == nil {
		h.unlimit(st)
	}
	j := h.succeed(st, err)
	h.hasHash("copy", h.hash("base"))
	if j.RetryFrom == nil || *j.RetryFrom != *first.Resumable {
		t.Errorf("it went on from %s, not %s", shown(j.RetryFrom), shown(first.Resumable))
	}
	if *j.RetryOf != first.Number || len(j.Warnings) > 0 || *j.Stats.BytesWritten > 64*mib-first.Resumable.Done {
		t.Errorf("%s, stats %s", outcome(j), shown(j.Stats))
	}
	if first := h.job(of(first)); first.Resumable != nil {
		t.Errorf("the first one can be resumed still: %s", shown(first.Resumable))
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
	h.must(os.RemoveAll(filepath.Join(h.dir, "run")))
	h.newBoot()
	h.start()
}

func (h *host) newBoot() {
	h.t.Helper()
	h.must(os.WriteFile(h.boot, []byte(uuid.NewString()+"\n"), 0o644))
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
	h := unbegun(t)
	h.boot = filepath.Join(h.dir, "boot_id")
	h.newBoot()
	return h
}

// After a reboot a pool without autostart is not started. Jobs on it wait until
// somebody starts it: one that was interrupted goes on then, one that had waited
// begins.
func TestInterruptedJobWaitsUntilItsPoolIsStarted(t *testing.T) {
	t.Parallel()
	h := newBootHost(t)
	if _, err := h.client.PatchPool(h.ctx(), contract.Submit{}, "pool", contract.PoolPatch{Autostart: new(false)}); err != nil {
		t.Fatal(err)
	}
	h.random("a", 64*mib)
	st, err := h.wipe("a", acceptLimits, limited(8*mib))
	before := h.marked(st, err)
	behind := h.began(h.wipe("a", acceptLimits))
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
		t.Error(outcome(j))
	}
	waiting(behind.Job.ID)
	h.reboot() // it is no use, and does not count
	if j := waiting(st.Job.ID); j.Resumed != 1 {
		t.Error(outcome(j))
	}
	h.must(os.Rename(h.pool, h.pool+".away"))
	h.jobIs(h.end(h.startPool("pool")), record.Job{State: record.Failed})
	waiting(st.Job.ID)
	waiting(behind.Job.ID)
	h.must(os.Rename(h.pool+".away", h.pool))
	h.succeed(h.startPool("pool"))
	h.unlimit(of(before))
	if j := h.succeed(st, nil); j.Resumed != 1 || *j.Stats.BytesWritten > 80*mib {
		t.Errorf("%s, stats %s", outcome(j), shown(j.Stats))
	}
	h.succeed(behind, nil)
	h.holds("a", 0, make([]byte, 64*mib), record.VolumeReady)
}

func TestWhatIsLeftForARetryGoesWithItsJob(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	j := h.interruptedClone()
	refresh := func() {
		t.Helper()
		h.succeed(h.refreshPool("pool"))
	}
	refresh()
	if len(h.drafts()) != 1 {
		t.Errorf("left while a retry may use it: %v", h.drafts())
	}
	h.forget(j)
	refresh() // if the one that forgetting began has not done it yet
	if len(h.drafts()) != 0 {
		t.Errorf("left of a forgotten job: %v", h.drafts())
	}
}
