package helper

import (
	"context"
	"errors"

	"storaged/internal/backends"
	"storaged/internal/ipc"
	"storaged/internal/record"
)

// space gives the pool's figures as its file system has them.
func (p pool) space(ctx context.Context) (ipc.Pool, error) {
	info, err := p.backend.Space(ctx, p.Pool)
	return p.figures(info), err
}

// figures is a pool as the daemon is told of it.
func (p pool) figures(info backends.PoolInfo) ipc.Pool {
	return ipc.Pool{
		Target: p.Target, Path: info.Path, Identity: string(info.ID), Disk: info.Disk,
		Capacity: info.Capacity, Allocation: info.Allocation, Available: info.Available,
	}
}

// discard removes what jobs left unfinished that ended. What cannot be removed
// keeps nobody from reading the pool.
func (p pool) discard(ctx context.Context, r *run, jobs []string) {
	for _, job := range jobs {
		err := r.step(ctx, func() error {
			_, err := p.backend.Settle(ctx, p.Pool, job, job, nil) // of any volume
			return err
		})
		if err != nil {
			r.warn("what job %q left unfinished is not removed: %v", job, err)
		}
	}
}

// spare takes over which pools are not to be deleted under another name.
func (p *pool) spare(others []string) error {
	for _, text := range others {
		id, err := poolID(p.backend, text)
		if err != nil {
			return err
		}
		p.Others = append(p.Others, id)
	}
	return nil
}

// pool is a pool and its driver.
type pool struct {
	backends.Pool
	backend backends.Backend
}

// scanning is the phase in which a pool is read; nobody knows how much it
// holds.
func scanning() ipc.PlanPhase {
	return ipc.PlanPhase{Name: "scan", Unit: "items", Weight: commitWeight, Data: true}
}

// scanned is that phase when it is over.
func scanned() ipc.PlanPhase {
	p := scanning()
	p.Data, p.Bounded = false, true
	return p
}

// change does one thing to the pool as the only phase of the run.
func (p pool) change(ctx context.Context, r *run, name string, do func() error) error {
	r.plan(single(name))
	r.next(0)
	return r.step(ctx, do)
}

func (p pool) start(ctx context.Context, r *run, build bool) error {
	steps := []func() error{func() error { return p.backend.Start(ctx, p.Pool) }}
	phases := []ipc.PlanPhase{single("start"), scanning()}
	if build && p.ID == "" { // else what was there is to be found, not made
		steps = append([]func() error{func() error { return p.build(ctx) }}, steps...)
		phases = append([]ipc.PlanPhase{single("build")}, phases...)
	}
	r.plan(phases...)
	for i, do := range steps {
		r.next(i)
		if err := r.step(ctx, do); err != nil {
			return err
		}
	}
	return p.refresh(ctx, r, len(steps))
}

// make makes the pool's storage.
func (p pool) make(ctx context.Context, overwrite bool) error {
	b, ok := p.backend.(backends.Builder)
	if !ok {
		return failed(record.Unsupported, "pools of type %q cannot be built", p.Type)
	}
	return b.Build(ctx, p.Pool, overwrite)
}

// unmake deletes the pool's storage.
func (p pool) unmake(ctx context.Context, withVolumes bool) error {
	b, ok := p.backend.(backends.Deleter)
	if !ok {
		return failed(record.Unsupported, "pools of type %q cannot be deleted", p.Type)
	}
	return b.Delete(ctx, p.Pool, withVolumes)
}

// build makes the pool's storage unless it is there.
func (p pool) build(ctx context.Context) error {
	err := p.make(ctx, false)
	if errors.Is(err, backends.ErrExists) {
		return nil
	}
	return err
}

// refresh lists the volumes as the phase of that index.
func (p pool) refresh(ctx context.Context, r *run, phase int) error {
	r.next(phase)
	return r.step(ctx, func() error {
		info, err := p.backend.Refresh(ctx, p.Pool, func(v backends.VolumeInfo) error {
			r.report.Items = append(r.report.Items, item(v))
			return nil
		})
		if err != nil {
			return err
		}
		figures := p.figures(info)
		r.report.Pool = &figures
		return nil
	})
}
