package main_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/testenv"
)

// What is mounted on a subdirectory of a pool is no business of the pool's: if
// it does not answer nobody has to wait for it.
func TestDeadMountBelowAPoolKeepsNobodyWaiting(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.otherPool("tmpfs")
	h.sparse("disk", mib)
	h.must(os.Mkdir(h.path("sub"), 0o755))
	wake := testenv.SilentOn(t, h.path("sub"))
	defer time.AfterFunc(30*time.Second, wake).Stop() // a helper that waits for it ends then, and fails
	h.runs(0, "", "pool", "refresh", "pool")
	h.runs(0, "disk", "vol", "list", "pool", "--fresh")
	h.runs(0, "", "pool", "verify", "pool")
	h.runs(0, "", "pool", "stop", "pool")
	h.runs(0, "", "pool", "start", "pool")
	h.runs(0, "", "pool", "evacuate", "pool", "--to", "other", "--yes")
	wake()
}

// A pool whose server answers nothing keeps nobody waiting but those who ask it: what the
// catalog knows is told at once.
func TestDaemonAnswersWhileAServerDoesNot(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.sparse("disk", mib)
	h.must(os.Mkdir(filepath.Join(h.dir, "away"), 0o755))
	wake := testenv.SilentOn(t, filepath.Join(h.dir, "away"))
	defer wake()
	_, st, err := h.definition("away", filepath.Join(h.dir, "away"), andStart)
	h.must(err)
	h.until(st.Job.ID, func(j record.Job) bool { return j.State == record.Running })
	calls := []func() error{
		func() error { _, err := h.client.Status(h.ctx()); return err },
		func() error { _, err := h.client.Pools(h.ctx()); return err },
		func() error { _, err := h.client.Volume(h.ctx(), "pool", "disk"); return err },
		func() error { _, err := h.client.Job(h.ctx(), st.Job.ID); return err },
	}
	var took []time.Duration
	for range 100 {
		for _, call := range calls {
			begun := time.Now()
			h.must(call())
			took = append(took, time.Since(begun))
		}
	}
	slices.Sort(took)
	p99 := took[len(took)*99/100]
	t.Logf("99 of 100 answers took less than %v", p99)
	if bound := 50 * time.Millisecond; p99 > bound && !raceEnabled { // under the race detector, beside others, nothing is measured
		t.Errorf("that is more than %v", bound)
	}
	_, err = h.client.CancelJob(h.ctx(), st.Job.ID, contract.JobCancel{Now: true})
	h.must(err)
	wake()
	if j := h.end(st, nil); j.State == record.Succeeded {
		t.Errorf("the start of a pool that answers nothing is %s", outcome(j))
	}
}
