package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/service/contract"
)

const (
	mib = 1 << 20
	// settling is what a change of a limit may take to hold.
	settling = time.Second
	// watch is how long a rate is measured.
	watch = 10 * time.Second
	// stillness is how long a paused helper is watched.
	stillness = 5 * time.Second
	baseSize  = 1 << 30
)

// control measures what becomes of pauses and limits, by what the kernel counts
// of the helpers (proc_pid_io(5)) and not by what they say of themselves.
func control(ctx context.Context, r *rig) error {
	if err := r.base(ctx); err != nil {
		return err
	}
	fmt.Println("pauses and limits, by /proc/PID/io of the helpers; promised is a deviation under 5 %")
	for _, measure := range []func(context.Context, *rig) error{pause, limitChanges, caps} {
		if err := measure(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

// base makes the volume "base", full of data, once.
func (r *rig) base(ctx context.Context) error {
	if r.hasBase {
		return nil
	}
	r.hasBase = true
	st, err := r.client.Start(ctx, contract.Submit{}, pool, "", &operation.CreateRequest{Name: "base", Capacity: baseSize})
	if err == nil {
		err = r.end(ctx, st)
	}
	if err != nil {
		return err
	}
	st, err = r.client.Start(ctx, contract.Submit{}, pool, "base", &operation.WipeRequest{Algorithm: "random"})
	if err != nil {
		return err
	}
	return r.end(ctx, st)
}

// clone starts a copy of "base" and returns when data moves; 0 is no limit.
func (r *rig) clone(ctx context.Context, name string, rate int64) (record.Job, error) {
	o := operation.JobOptions{}
	if rate > 0 {
		o.Limit = &rate
	}
	st, err := r.client.Start(ctx, contract.Submit{}, pool, "base", &operation.CloneRequest{Name: name, Reflink: "never", JobOptions: o})
	if err != nil {
		return record.Job{}, err
	}
	return r.follow(ctx, st.Job.ID, func(j record.Job) bool { return j.State == record.Running && j.Progress.Done > 0 })
}

// follow looks at a job until it is as wanted, or over.
func (r *rig) follow(ctx context.Context, id string, wanted func(record.Job) bool) (record.Job, error) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		j, err := r.client.Job(ctx, id)
		switch {
		case err != nil || wanted(j):
			return j, err
		case j.State.Terminal():
			return j, fmt.Errorf("job %d is over: %s %v", j.Number, j.State, j.Error)
		}
		<-tick.C
	}
}

// counters are the figures of a process's /proc/PID/io, by their names there.
func counters(pid int) (map[string]int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		return nil, err
	}
	counts := map[string]int64{}
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		if counts[name], err = strconv.ParseInt(value, 10, 64); err != nil {
			return nil, err
		}
	}
	return counts, nil
}

// pause watches a paused helper and cancels it.
func pause(ctx context.Context, r *rig) error {
	j, err := r.clone(ctx, "paused", 64*mib)
	if err != nil {
		return err
	}
	if _, err := r.client.PauseJob(ctx, j.ID); err != nil {
		return err
	}
	if _, err := r.follow(ctx, j.ID, func(j record.Job) bool { return j.State == record.Paused }); err != nil {
		return err
	}
	before, err := counters(j.Helper.PID)
	if err != nil {
		return err
	}
	<-time.After(stillness)
	after, err := counters(j.Helper.PID)
	if err != nil {
		return err
	}
	fmt.Printf("  paused for %v:", stillness)
	for _, name := range slices.Sorted(maps.Keys(after)) {
		fmt.Printf(" %s +%d", name, after[name]-before[name])
	}
	fmt.Println(" (what is left is the helper's word that it lives)")
	took, err := timed(func() error { return r.cancel(ctx, []record.Job{j}) })
	fmt.Printf("  canceled while paused: I/O stopped after %s\n", milli(took))
	return err
}

// limit changes the limit of a job; 0 is none.
func (r *rig) limit(ctx context.Context, j record.Job, rate int64) error {
	value := []byte("null")
	if rate > 0 {
		value, _ = json.Marshal(rate) // a number
	}
	_, err := r.client.PatchJob(ctx, j.ID, contract.JobPatch{Limit: value})
	return err
}

// held measures how fast jobs go together and prints how far that is from want.
func held(what string, want int64, jobs ...record.Job) error {
	moved := func() (n int64, err error) {
		for _, j := range jobs {
			c, err := counters(j.Helper.PID)
			if err != nil {
				return 0, err
			}
			n += c["wchar"]
		}
		return n, nil
	}
	<-time.After(settling)
	before, err := moved()
	if err != nil {
		return err
	}
	start := time.Now()
	<-time.After(watch)
	after, err := moved()
	if err != nil {
		return err
	}
	rate := float64(after-before) / time.Since(start).Seconds()
	fmt.Printf("  %s: %.2f MiB/s over %v, %+.2f %% of %d\n", what, rate/mib, watch, 100*(rate/float64(want)-1), want/mib)
	return nil
}

// limitChanges changes the limit of a running job, up and down.
func limitChanges(ctx context.Context, r *rig) error {
	j, err := r.clone(ctx, "limited", 16*mib)
	if err != nil {
		return err
	}
	for _, rate := range []int64{16 * mib, 32 * mib, 4 * mib, 24 * mib} {
		if err := r.limit(ctx, j, rate); err != nil {
			return err
		}
		if err := held(fmt.Sprintf("limit %d MiB/s, set a second before", rate/mib), rate, j); err != nil {
			return err
		}
	}
	return r.cancel(ctx, []record.Job{j})
}

// caps lets three jobs share a cap, of all and of their pool.
func caps(ctx context.Context, r *rig) error {
	const rate = 48 * mib
	var jobs []record.Job
	if _, err := r.client.PatchLimits(ctx, contract.LimitsPatch{Rate: fmt.Appendf(nil, "%d", rate)}); err != nil {
		return err
	}
	for i, own := range []int64{0, 0, 8 * mib} {
		j, err := r.clone(ctx, fmt.Sprintf("shared-%d", i), own)
		if err != nil {
			return err
		}
		jobs = append(jobs, j)
	}
	if err := held("three jobs under a cap of all, one of them with a limit of 8 MiB/s", rate, jobs...); err != nil {
		return err
	}
	cap := int64(rate / 2)
	if _, err := r.client.PatchLimits(ctx, contract.LimitsPatch{Rate: []byte("null"), PoolRates: map[string]*int64{pool: &cap}}); err != nil {
		return err
	}
	if err := held("the same under a cap of their pool", cap, jobs...); err != nil {
		return err
	}
	if _, err := r.client.PauseJob(ctx, jobs[0].ID); err != nil {
		return err
	}
	if err := held("the same with one paused", cap, jobs...); err != nil {
		return err
	}
	if _, err := r.client.PatchLimits(ctx, contract.LimitsPatch{PoolRates: map[string]*int64{pool: nil}}); err != nil {
		return err
	}
	return r.cancel(ctx, jobs)
}
