package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"storaged/internal/record"
	"storaged/internal/service/contract"
)

// crowd measures calls while 64 jobs run and 1000 wait, and what the daemon
// needs for them.
func crowd(ctx context.Context, r *rig) ([]measurement, error) {
	const running, queued, rate = 64, 1000, 1 << 20
	before, err := r.holds(ctx)
	if err != nil {
		return nil, err
	}
	jobs, err := r.load(ctx, running, rate)
	if err != nil {
		return nil, err
	}
	submits, waiting, err := r.submitEach(ctx, queued, running, rate)
	if err != nil {
		return nil, err
	}
	jobs = append(jobs, waiting...)
	lists, err := repeat(200, func() error { _, err := r.client.Jobs(ctx, contract.JobFilter{}, contract.Page{}); return err })
	if err != nil {
		return nil, err
	}
	looks, err := repeat(200, func() error { _, err := r.client.Status(ctx); return err })
	if err != nil {
		return nil, err
	}
	rss := r.status("VmHWM")
	told, stopped, err := r.cancelEach(ctx, jobs, running)
	if err != nil {
		return nil, err
	}
	after, err := r.holds(ctx)
	if err != nil {
		return nil, err
	}
	fmt.Printf("daemon with %d running and %d waiting jobs: %s at most; before: %v, after: %v\n", running, queued, rss, before, after)
	where := fmt.Sprintf(", %d jobs run, %d wait", running, queued)
	return []measurement{
		{"submit" + where, submits, "p99 under 50 ms"},
		{"job list" + where, lists, "p99 under 50 ms"},
		{"status" + where, looks, "p99 under 50 ms"},
		{"cancel" + where + ", helper told", told, "p99 under 500 ms"},
		{"cancel" + where + ", I/O stopped", stopped, "p99 under 2 s"},
	}, nil
}

// submitEach submits n wipes, in turn of so many volumes.
func (r *rig) submitEach(ctx context.Context, n, volumes int, rate int64) (took samples, jobs []record.Job, err error) {
	for i := range n {
		var st contract.Started
		d, err := timed(func() (err error) {
			st, err = r.wipe(ctx, i%volumes, rate)
			return err
		})
		if err != nil {
			return nil, nil, err
		}
		took, jobs = append(took, d), append(jobs, *st.Job)
	}
	return took, jobs, nil
}

// cancelEach cancels all jobs, the waiting ones first, and measures the
// running ones.
func (r *rig) cancelEach(ctx context.Context, jobs []record.Job, running int) (told, stopped samples, err error) {
	if err := r.cancel(ctx, jobs[running:]); err != nil {
		return nil, nil, err
	}
	for _, j := range jobs[:running] {
		start := time.Now()
		if _, err := r.client.CancelJob(ctx, j.ID, contract.JobCancel{}); err != nil {
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

// holding is what a daemon has open and going, by its own metrics.
type holding struct{ descriptors, goroutines string }

func (h holding) String() string {
	return h.descriptors + " descriptors and " + h.goroutines + " goroutines"
}

func (r *rig) holds(ctx context.Context) (holding, error) {
	text, err := r.client.Metrics(ctx)
	if err != nil {
		return holding{}, err
	}
	value := func(name string) string {
		for line := range strings.Lines(string(text)) {
			if v, ok := strings.CutPrefix(line, name+" "); ok {
				return strings.TrimSpace(v)
			}
		}
		return "?"
	}
	return holding{value("process_open_fds"), value("go_goroutines")}, nil
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
