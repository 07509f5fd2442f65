package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/service/contract"
)

// estimateRounds is how often each kind of job is run: the later ones know what
// the first took.
const estimateRounds = 3

// forecasts are the published predictions of one job, at 10, 20 … 90 %.
type forecasts [9]struct {
	at        time.Time
	remaining float64 // seconds; 0: nothing was predicted
}

// scenario is a kind of job whose predicted end is held against the real one.
type scenario struct {
	name  string
	start func(ctx context.Context, r *rig, name string) (contract.Started, error)
	half  func(ctx context.Context, r *rig, j record.Job) error // at 50 %; nil: nothing
}

func cloneAt(rate int64) func(context.Context, *rig, string) (contract.Started, error) {
	return func(ctx context.Context, r *rig, name string) (contract.Started, error) {
		o := operation.JobOptions{}
		if rate > 0 {
			o.Limit = &rate
		}
		return r.client.Start(ctx, contract.Submit{}, pool, "base", &operation.CloneRequest{Name: name, Reflink: "never", JobOptions: o})
	}
}

func wipeAt(rate int64) func(context.Context, *rig, string) (contract.Started, error) {
	return func(ctx context.Context, r *rig, _ string) (contract.Started, error) {
		o := operation.JobOptions{}
		if rate > 0 {
			o.Limit = &rate
		}
		return r.client.Start(ctx, contract.Submit{}, pool, "base", &operation.WipeRequest{Algorithm: "random", JobOptions: o})
	}
}

func slower(ctx context.Context, r *rig, j record.Job) error { return r.limit(ctx, j, 48*mib) }

var scenarios = []scenario{
	{"clone", cloneAt(0), nil},
	{"clone, limit 96 MiB/s", cloneAt(96 * mib), nil},
	{"clone, limit 96, at half 48 MiB/s", cloneAt(96 * mib), slower},
	{"wipe", wipeAt(0), nil},
	{"wipe, limit 96 MiB/s", wipeAt(96 * mib), nil},
	{"wipe, limit 96, at half 48 MiB/s", wipeAt(96 * mib), slower},
}

// estimates prints how far the daemon's predicted ends were off, for real jobs.
func estimates(ctx context.Context, r *rig) error {
	if err := r.base(ctx); err != nil {
		return err
	}
	fmt.Printf("error of the predicted time left, in percent of the real one, the median of %d jobs of %d MiB (-: none predicted)\n", estimateRounds, baseSize/mib)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "at\t10 %\t20 %\t30 %\t40 %\t50 %\t60 %\t70 %\t80 %\t90 %\t")
	for _, s := range scenarios {
		var errors [len(forecasts{})][]float64
		for i := range estimateRounds {
			if err := s.run(ctx, r, i, &errors); err != nil {
				return err
			}
		}
		fmt.Fprint(w, s.name)
		for _, e := range errors {
			fmt.Fprint(w, "\t", middle(e))
		}
		fmt.Fprintln(w, "\t")
	}
	return w.Flush()
}

// run plays one job and adds the errors of its predictions.
func (s scenario) run(ctx context.Context, r *rig, round int, errors *[len(forecasts{})][]float64) error {
	name := fmt.Sprintf("estimated-%d", round)
	st, err := s.start(ctx, r, name)
	if err != nil {
		return err
	}
	seen, end, err := s.watch(ctx, r, st.Job.ID)
	if err != nil {
		return err
	}
	for i, f := range seen {
		if left := end.Sub(f.at).Seconds(); f.remaining > 0 && left > 0 {
			errors[i] = append(errors[i], 100*math.Abs(f.remaining/left-1))
		}
	}
	if st.Job.Kind != record.VolumeClone {
		return nil
	}
	del, err := r.client.Start(ctx, contract.Submit{}, pool, name, &operation.DeleteRequest{})
	if err != nil {
		return err
	}
	return r.end(ctx, del)
}

// watch notes what is predicted at each tenth, and when the job ended.
func (s scenario) watch(ctx context.Context, r *rig, id string) (seen forecasts, end time.Time, err error) {
	next := 1
	j, err := r.follow(ctx, id, func(j record.Job) bool {
		for j.Progress.Percent != nil && next <= len(seen) && *j.Progress.Percent >= float64(10*next) {
			if left := j.Estimate.RemainingS; left != nil {
				seen[next-1].at, seen[next-1].remaining = time.Now(), *left
			}
			if next++; next == 6 && s.half != nil && err == nil {
				err = s.half(ctx, r, j)
			}
		}
		return j.State == record.Succeeded || err != nil
	})
	if err != nil {
		return seen, end, err
	}
	return seen, *j.Ended, nil
}

// middle is the median as it is printed.
func middle(values []float64) string {
	if len(values) == 0 {
		return "-"
	}
	slices.Sort(values)
	return fmt.Sprintf("%.0f", values[len(values)/2])
}
