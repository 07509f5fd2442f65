package main_test

import (
	"strings"
	"testing"
	"time"

	"storaged/internal/record"
	"storaged/internal/service/contract"
)

func ptr[T any](v T) *T { return &v }

func (h *host) patchLimits(r contract.LimitsPatch) record.Limits {
	h.t.Helper()
	l, err := h.client.PatchLimits(h.ctx(), r)
	if err != nil {
		h.t.Fatalf("limits: %v", err)
	}
	return l
}

func TestLimitsSetAtRunTimeSurviveARestart(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	l := h.patchLimits(contract.LimitsPatch{
		Running: ptr(7), Rate: []byte("1000000"), PoolRates: map[string]*int64{"pool": ptr(int64(5))},
		PoolRunning: map[string]*int{"pool": ptr(2)}, DeviceRunning: map[string]*int{"8:0": ptr(1)},
	})
	check := func(l record.Limits, err error) {
		t.Helper()
		if err != nil || l.Running != 7 || l.RunningPool != 16 || l.Rate == nil || *l.Rate != 1000000 ||
			l.PoolRates["pool"] != 5 || l.PoolRunning["pool"] != 2 || l.DeviceRunning["8:0"] != 1 {
			t.Errorf("limits are %s (%v)", shown(l), err)
		}
	}
	check(l, nil)
	check(h.client.Limits(h.ctx()))
	h.stop()
	h.start()
	check(h.client.Limits(h.ctx()))
	l = h.patchLimits(contract.LimitsPatch{Rate: []byte("null"), PoolRates: map[string]*int64{"pool": nil}})
	if l.Rate != nil || len(l.PoolRates) != 0 || l.Running != 7 || l.PoolRunning["pool"] != 2 {
		t.Errorf("limits are %s", shown(l))
	}
	_, err := h.client.PatchLimits(h.ctx(), contract.LimitsPatch{PoolRates: map[string]*int64{"nope": ptr(int64(1))}, Running: ptr(1)})
	if record.CodeOf(err) != record.NotFound {
		t.Errorf("a limit on a pool that is not there: %v", err)
	}
	if l, err := h.client.Limits(h.ctx()); err != nil || l.Running != 7 {
		t.Errorf("a refused change was made: %s (%v)", shown(l), err)
	}
}

// Two jobs under a cap move together what the cap says: they take no less time than
// that, however busy the machine is.
func TestCapOfAPoolHoldsForItsJobsTogether(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	const size, rate = 48 * mib, 16 * mib
	h.random("base", size)
	h.patchLimits(contract.LimitsPatch{PoolRates: map[string]*int64{"pool": ptr(int64(rate))}})
	began := time.Now()
	one, two := h.began(h.clone("base", "one", noReflink)), h.began(h.clone("base", "two", noReflink))
	h.succeed(one, nil)
	h.succeed(two, nil)
	took := time.Since(began)
	if speed := 2 * size / took.Seconds(); speed > 1.15*rate {
		t.Errorf("together they moved %.1f MiB/s under a cap of 16", speed/mib)
	}
}

func TestExceptionForAPoolMakesJobsWait(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.random("base", 16*mib)
	h.patchLimits(contract.LimitsPatch{PoolRunning: map[string]*int{"pool": ptr(1)}, Rate: []byte("1048576")})
	one := h.began(h.clone("base", "one", noReflink))
	h.running(one)
	two := h.began(h.clone("base", "two", noReflink))
	j, err := h.client.Job(h.ctx(), two.Job.ID)
	if err != nil || j.State != record.Queued || len(j.WaitingOn) == 0 || j.WaitingOn[0].For != "slot" {
		t.Fatalf("the second is %s, waiting on %s (%v)", j.State, shown(j.WaitingOn), err)
	}
	h.patchLimits(contract.LimitsPatch{PoolRunning: map[string]*int{"pool": nil}})
	h.running(two)
	h.patchLimits(contract.LimitsPatch{Rate: []byte("null")})
	h.succeed(one, nil)
	h.succeed(two, nil)
}

// A delete that wipes first is as long as a wipe, and under the same cap.
func TestCapHoldsADeleteThatWipes(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.random("base", 16*mib)
	h.patchLimits(contract.LimitsPatch{Rate: []byte("1048576")})
	st := h.began(h.remove("base", wipeFirst("zero")))
	if j := h.running(st); j.Class != record.Async {
		t.Errorf("the job is of class %s", j.Class)
	}
	h.patchLimits(contract.LimitsPatch{Rate: []byte("null")})
	h.succeed(st, nil)
	h.absent("base")
}

func TestMetricsCountTheJobsOfThisDaemon(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	want := func(lines ...string) {
		t.Helper()
		b := must(h.client.Metrics(h.ctx()))(t)
		for _, l := range lines {
			if !strings.Contains(string(b), l) {
				t.Errorf("there is no %q in\n%s", l, b)
			}
		}
	}
	h.random("base", 16*mib)
	h.succeed(h.began(h.clone("base", "quick", noReflink)), nil)
	h.patchLimits(contract.LimitsPatch{Rate: []byte("1048576")})
	st := h.began(h.clone("base", "slow", noReflink))
	h.running(st)
	want(`storaged_jobs{kind="volume.clone",state="running"} 1`,
		`storaged_jobs_ended_total{kind="volume.clone",outcome="succeeded"} 1`,
		`storaged_jobs_ended_total{kind="pool.start",outcome="succeeded"} 1`,
		`storaged_job_bytes_total{direction="written",kind="volume.clone"} 1.6777216e+07`,
		`storaged_job_cancel_told_seconds_count 0`, `go_goroutines`)
	h.cancel(st)
	h.end(st, nil)
	want(`storaged_jobs_ended_total{kind="volume.clone",outcome="canceled"} 1`,
		`storaged_job_cancel_told_seconds_count 1`, `storaged_job_cancel_stopped_seconds_count 1`)
	h.stop()
	h.start()
	want(`storaged_store_updates_total`, `storaged_jobs_ended_total{kind="volume.clone",outcome="canceled"} 0`)
}

// A megabyte is allocated while copies have all places.
func TestShortWorkDoesNotWaitForCopies(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.patchLimits(contract.LimitsPatch{PoolRunning: map[string]*int{"pool": ptr(1)}})
	h.random("base", 80*mib)
	clone := h.slowClone("copy")
	h.succeed(h.create("small", mib, allAllocated))
	st := h.began(h.create("large", 65*mib, allAllocated))
	if j := h.job(st); j.State != record.Queued || len(j.WaitingOn) != 1 || j.WaitingOn[0].For != "slot" || j.WaitingOn[0].Short {
		t.Errorf("a large one is %s, waits on %s", j.State, shown(j.WaitingOn))
	}
	h.unlimited(clone)
	h.succeed(st, nil)
}
