package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/service/contract"
)

// The work of one trial. Content is moved from and to the page cache and synced,
// as it is by every job; calls are so short that many of them are one trial.
const (
	againstBytes   = 256 * mib
	againstCreates = 20
	againstSubmits = 50
	againstLists   = 100
	againstHistory = 100 // jobs that the lists find
)

// rival is what two builds are compared by. It gives the time that counts.
type rival struct {
	name  string
	trial func(ctx context.Context, r *rig, n int) (time.Duration, error)
}

func rivals() []rival {
	list := func(name string, call func(context.Context, *rig) error) rival {
		return rival{name, func(ctx context.Context, r *rig, _ int) (time.Duration, error) {
			return timed(func() error {
				_, err := repeat(againstLists, func() error { return call(ctx, r) })
				return err
			})
		}}
	}
	return []rival{
		{"clone of 256 MiB", cloneTrial},
		{"wipe of 256 MiB with zeros", wipeTrial},
		{"20 sparse creates, to their ends", createTrial},
		{"50 submits of checksums that wait", submitTrial(&operation.VerifyRequest{})},
		{"50 submits of wipes that wait", submitTrial(&operation.WipeRequest{})},
		list("100 lists of jobs", func(ctx context.Context, r *rig) error {
			_, err := r.client.Jobs(ctx, contract.JobFilter{}, contract.Page{})
			return err
		}),
		list("100 lists of volumes", func(ctx context.Context, r *rig) error {
			_, err := r.client.Volumes(ctx, contract.VolumeFilter{})
			return err
		}),
		list("100 lists of pools", func(ctx context.Context, r *rig) error {
			_, err := r.client.Pools(ctx)
			return err
		}),
	}
}

// against compares this build with another, whose daemon is asked by the same
// client: in each round both do everything once, in an order of its own.
func against(ctx context.Context, bin string, args []string) error {
	set := flag.NewFlagSet("against", flag.ContinueOnError)
	rounds := set.Int("n", 15, "pairs of each comparison; fewer than 6 give no interval")
	if err := set.Parse(args); err != nil {
		return err
	}
	if set.NArg() != 1 || *rounds < 1 {
		return fmt.Errorf("against needs the directory of the other build's binaries")
	}
	rigs := [2]*rig{}
	for i, dir := range []string{bin, set.Arg(0)} {
		r, err := startRig(ctx, dir)
		if err != nil {
			return err
		}
		defer r.stop()
		if err := r.furnish(ctx); err != nil {
			return err
		}
		rigs[i] = r
	}
	all := rivals()
	took := make([][2][]float64, len(all))
	order := rand.New(rand.NewPCG(1, 2)) // the same in every run
	for n := range *rounds {
		for i, c := range all {
			for _, who := range order.Perm(2) {
				d, err := c.trial(ctx, rigs[who], n)
				if err != nil {
					return fmt.Errorf("%s: %w", c.name, err)
				}
				took[i][who] = append(took[i][who], d.Seconds()*1000)
			}
		}
	}
	compare(all, took)
	return nil
}

func compare(all []rival, took [][2][]float64) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "what\tn\tthis\tother\tthis/other")
	for i, c := range all {
		fmt.Fprintf(w, "%s\t%d\t%.1f ms\t%.1f ms\t%s\n", c.name, len(took[i][0]), median(took[i][0]), median(took[i][1]), told(ratios(took[i][0], took[i][1])))
	}
	w.Flush() // to stdout; a failure has nowhere to go
}

// furnish makes what the trials work on: a full volume, and a history.
func (r *rig) furnish(ctx context.Context) error {
	if err := r.made(ctx, "source", againstBytes, &operation.Allocation{}); err != nil {
		return err
	}
	if err := noise(filepath.Join(r.dir, "pool", "source"), againstBytes); err != nil {
		return err
	}
	for i := range againstHistory {
		if err := r.made(ctx, fmt.Sprintf("sparse-%d", i), gib, &operation.Allocation{}); err != nil {
			return err
		}
	}
	return nil
}

// made creates a volume, to the end of the job.
func (r *rig) made(ctx context.Context, name string, capacity int64, a *operation.Allocation) error {
	return r.does(ctx, "", &operation.CreateRequest{Name: name, Capacity: capacity, Allocation: a})
}

// does a job to its end, on the pool or a volume of it.
func (r *rig) does(ctx context.Context, volume string, body operation.Request) error {
	st, err := r.client.Start(ctx, contract.Submit{}, pool, volume, body)
	if err != nil {
		return err
	}
	return r.end(ctx, st)
}

func cloneTrial(ctx context.Context, r *rig, _ int) (time.Duration, error) {
	took, err := timed(func() error {
		return r.does(ctx, "source", &operation.CloneRequest{Name: "clone", Reflink: "never"})
	})
	if err != nil {
		return 0, err
	}
	return took, r.does(ctx, "clone", &operation.DeleteRequest{})
}

// wipeTrial wipes what is full of data and in the page cache.
func wipeTrial(ctx context.Context, r *rig, _ int) (time.Duration, error) {
	if err := r.does(ctx, "source", &operation.CloneRequest{Name: "victim", Reflink: "never"}); err != nil {
		return 0, err
	}
	took, err := timed(func() error { return r.does(ctx, "victim", &operation.WipeRequest{}) })
	if err != nil {
		return 0, err
	}
	return took, r.does(ctx, "victim", &operation.DeleteRequest{})
}

func createTrial(ctx context.Context, r *rig, n int) (time.Duration, error) {
	took, err := timed(func() error {
		for i := range againstCreates {
			if err := r.made(ctx, fmt.Sprintf("new-%d-%d", n, i), 10*gib, &operation.Allocation{}); err != nil {
				return err
			}
		}
		return nil
	})
	for i := 0; i < againstCreates && err == nil; i++ {
		err = r.does(ctx, fmt.Sprintf("new-%d-%d", n, i), &operation.DeleteRequest{})
	}
	return took, err
}

// submitTrial submits jobs that wait for the only place, which a slow copy has.
func submitTrial(body operation.Request) func(context.Context, *rig, int) (time.Duration, error) {
	return func(ctx context.Context, r *rig, _ int) (time.Duration, error) {
		one, all, rate := 1, 64, int64(mib)
		if _, err := r.client.PatchLimits(ctx, contract.LimitsPatch{Running: &one}); err != nil {
			return 0, err
		}
		var jobs []record.Job
		ask := func(volume string, body operation.Request) error {
			st, err := r.client.Start(ctx, contract.Submit{}, pool, volume, body)
			if err == nil {
				jobs = append(jobs, *st.Job)
			}
			return err
		}
		slow := &operation.CloneRequest{Name: "slow", Reflink: "never", JobOptions: operation.JobOptions{Limit: &rate}}
		if err := ask("source", slow); err != nil {
			return 0, err
		}
		took, err := timed(func() error {
			_, err := repeat(againstSubmits, func() error { return ask("sparse-0", body) })
			return err
		})
		if err == nil {
			err = r.cancel(ctx, jobs)
		}
		if err == nil {
			_, err = r.client.PatchLimits(ctx, contract.LimitsPatch{Running: &all})
		}
		return took, err
	}
}
