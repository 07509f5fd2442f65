package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"storaged/internal/api"
	"storaged/internal/record"
)

// crowd measures calls while 64 jobs run and 1000 wait, and what the daemon
// needs for them.
func crowd(ctx context.Context, r *rig) ([]measurement, error) {
	const running, queued, rate = 64, 1000, 1 << 20
	before := r.descriptors()
	jobs, err := r.load(ctx, running, rate)
	if err != nil {
		return nil, err
	}
	var submits samples
	for i := range queued {
		var st api.Started
		d, err := timed(func() (err error) {
			st, err = r.wipe(ctx, i%running, rate)
			return err
		})
		if err != nil {
			return nil, err
		}
		submits, jobs = append(submits, d), append(jobs, *st.Job)
	}
	lists, err := repeat(200, func() error { _, err := r.client.Jobs(ctx, api.JobFilter{}, api.Page{}); return err })
	if err != nil {
		return nil, err
	}
	rss := r.status("VmHWM")
	told, stopped, err := r.cancelEach(ctx, jobs, running)
	if err != nil {
		return nil, err
	}
	fmt.Printf("daemon with %d running and %d waiting jobs: %s at most; descriptors before %d, after %d\n",
		running, queued, rss, before, r.descriptors())
	where := fmt.Sprintf(", %d jobs run, %d wait", running, queued)
	return []measurement{
		{"submit" + where, submits, "p99 under 50 ms"},
		{"job list" + where, lists, "p99 under 50 ms"},
		{"cancel" + where + ", helper told", told, "p99 under 500 ms"},
		{"cancel" + where + ", I/O stopped", stopped, "p99 under 2 s"},
	}, nil
}

// cancelEach cancels all jobs, the waiting ones first, and measures the
// running ones.
func (r *rig) cancelEach(ctx context.Context, jobs []record.Job, running int) (told, stopped samples, err error) {
	if err := r.cancel(ctx, jobs[running:]); err != nil {
		return nil, nil, err
	}
	for _, j := range jobs[:running] {
		start := time.Now()
		if _, err := r.client.CancelJob(ctx, j.ID, api.JobCancel{}); err != nil {
			return nil, nil, err
		}
		told = append(told, time.Since(start))
		end, err := r.client.WaitJob(ctx, j.ID, startTimeout)
		if err != nil {
			return nil, nil, err
		}
		if end.State != record.Canceled {
			return nil, nil, errors.New("a canceled job is " + string(end.State))
		}
		stopped = append(stopped, time.Since(start))
	}
	return told, stopped, nil
}

// repeat measures a call n times.
func repeat(n int, call func() error) (samples, error) {
	var took samples
	for range n {
		d, err := timed(call)
		if err != nil {
			return nil, err
		}
		took = append(took, d)
	}
	return took, nil
}

// descriptors counts the daemon's open files.
func (r *rig) descriptors() int {
	fds, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", r.daemon.Process.Pid))
	return len(fds)
}

// status reads a line of the daemon's /proc/PID/status.
func (r *rig) status(field string) string {
	b, _ := os.ReadFile(filepath.Join("/proc", fmt.Sprint(r.daemon.Process.Pid), "status"))
	for line := range strings.Lines(string(b)) {
		if name, value, ok := strings.Cut(line, ":"); ok && name == field {
			return strings.TrimSpace(value)
		}
	}
	return "?"
}
