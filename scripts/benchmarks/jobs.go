package main

import (
	"context"
	"fmt"

	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/service/contract"
)

// sparseCreate measures a short job from its request to its end.
func sparseCreate(ctx context.Context, r *rig) ([]measurement, error) {
	const rounds = 300
	var took samples
	for i := range rounds {
		d, err := timed(func() error {
			st, err := r.client.Start(ctx, contract.Submit{}, pool, "", &operation.CreateRequest{
				Name: fmt.Sprintf("sparse-%d", i), Capacity: 10 << 30, Allocation: &operation.Allocation{},
			})
			if err != nil {
				return err
			}
			return r.end(ctx, st)
		})
		if err != nil {
			return nil, err
		}
		took = append(took, d)
	}
	return []measurement{{"sparse vol create, submit to finished", took, "median under 15 ms"}}, nil
}

// listsUnderLoad measures lists while long jobs run.
func listsUnderLoad(ctx context.Context, r *rig) ([]measurement, error) {
	const jobs, rounds = 8, 500
	running, err := r.load(ctx, jobs, 16<<20)
	if err != nil {
		return nil, err
	}
	calls := []struct {
		name string
		call func() error
	}{
		{"pool list", func() error { _, err := r.client.Pools(ctx); return err }},
		{"vol list", func() error { _, err := r.client.Volumes(ctx, contract.VolumeFilter{}); return err }},
		{"job list", func() error { _, err := r.client.Jobs(ctx, contract.JobFilter{}, contract.Page{}); return err }},
	}
	var rows []measurement
	for _, c := range calls {
		took, err := repeat(rounds, c.call)
		if err != nil {
			return nil, err
		}
		rows = append(rows, measurement{fmt.Sprintf("%s while %d wipes run", c.name, jobs), took, "p99 under 50 ms"})
	}
	return rows, r.cancel(ctx, running)
}

// wipe starts a wipe of a sparse volume, slowed to rate bytes per second.
func (r *rig) wipe(ctx context.Context, volume int, rate int64) (contract.Started, error) {
	return r.client.Start(ctx, contract.Submit{}, pool, fmt.Sprintf("sparse-%d", volume), &operation.WipeRequest{
		Algorithm: "random", JobOptions: operation.JobOptions{Limit: &rate},
	})
}

// load starts n slow wipes and returns when all of them run.
func (r *rig) load(ctx context.Context, n int, rate int64) ([]record.Job, error) {
	events, err := r.client.Events(ctx, 0)
	if err != nil {
		return nil, err
	}
	defer events.Close()
	waiting := map[string]bool{}
	var jobs []record.Job
	for i := range n {
		st, err := r.wipe(ctx, i, rate)
		if err != nil {
			return nil, err
		}
		jobs = append(jobs, *st.Job)
		waiting[st.Job.ID] = true
	}
	for len(waiting) > 0 {
		e, err := events.Next()
		if err != nil {
			return nil, err
		}
		if e.Job != nil && e.Job.State == record.Running {
			delete(waiting, e.Job.ID)
		}
	}
	return jobs, nil
}

func (r *rig) cancel(ctx context.Context, jobs []record.Job) error {
	for _, j := range jobs {
		if _, err := r.client.CancelJob(ctx, j.ID, contract.JobCancel{}); err != nil {
			return err
		}
	}
	for _, j := range jobs {
		if _, err := r.client.WaitJob(ctx, j.ID, startTimeout); err != nil {
			return err
		}
	}
	return nil
}
