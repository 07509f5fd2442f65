package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"storaged/internal/backends"
	"storaged/internal/ipc"
	"storaged/internal/operation"
)

func poolBuildCommand() *cli.Command {
	return taskCommand(operation.NewPoolBuild, func(o *operation.PoolBuild) (task, error) {
		t, err := poolTask(o, o.Volume, said{"build", "built"}, func(ctx context.Context, r *run, p pool) error {
			return p.change(ctx, r, "build", func() error { return p.backend.Build(ctx, p.Pool, o.Overwrite) })
		})
		if o.Overwrite {
			t.ask = fmt.Sprintf("what is at %q will be overwritten", o.Path)
		}
		return t, err
	})
}

func poolStartCommand() *cli.Command {
	return taskCommand(operation.NewPoolStart, func(o *operation.PoolStart) (task, error) {
		return poolTask(o, o.Volume, said{"start", "started"}, func(ctx context.Context, r *run, p pool) error { return p.start(ctx, r, o.Build) })
	})
}

func poolStopCommand() *cli.Command {
	return taskCommand(operation.NewPoolStop, func(o *operation.PoolStop) (task, error) {
		return poolTask(o, o.Volume, said{"stop", "stopped"}, func(ctx context.Context, r *run, p pool) error {
			return p.change(ctx, r, "stop", func() error { return p.backend.Stop(ctx, p.Pool) })
		})
	})
}

func poolRefreshCommand() *cli.Command {
	return taskCommand(operation.NewPoolRefresh, func(o *operation.PoolRefresh) (task, error) {
		return poolTask(o, o.Volume, said{"refresh", "read"}, func(ctx context.Context, r *run, p pool) error {
			r.plan(scanning())
			p.discard(ctx, r, o.Discard)
			return p.refresh(ctx, r, 0)
		})
	})
}

func poolSpaceCommand() *cli.Command {
	return taskCommand(operation.NewSpace, func(o *operation.Space) (task, error) {
		return poolTask(o, o.Volume, said{"ask the space of", "asked the space of"}, func(ctx context.Context, r *run, p pool) error {
			return p.change(ctx, r, "space", func() error {
				figures, err := p.space(ctx)
				r.report.Pool = &figures
				return err
			})
		})
	})
}

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

func poolDeleteCommand() *cli.Command {
	return taskCommand(operation.NewPoolDelete, func(o *operation.PoolDelete) (task, error) {
		t, err := poolTask(o, o.Volume, said{"delete", "deleted"}, func(ctx context.Context, r *run, p pool) error {
			if err := p.spare(o.Others); err != nil {
				return err
			}
			return p.change(ctx, r, "delete", func() error { return p.backend.Delete(ctx, p.Pool, o.WithVolumes) })
		})
		t.ask = fmt.Sprintf("the pool at %q will be deleted", o.Path)
		if o.WithVolumes {
			t.ask = fmt.Sprintf("the pool at %q will be deleted with all its volumes", o.Path)
		}
		return t, err
	})
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

// said is what a task does to a pool, in words: the infinitive and the participle.
type said struct{ do, done string }

// poolTask makes a task about the pool of --target.
func poolTask(o tasked, v operation.Volume, verb said, work func(ctx context.Context, r *run, p pool) error) (task, error) {
	p, err := poolOf(o, "target", v)
	if err != nil {
		return task{}, err
	}
	return task{
		doing:  fmt.Sprintf("%s pool %q", verb.do, p.Target),
		done:   fmt.Sprintf("%s pool %q", verb.done, p.Target),
		undone: "what is done already stays so",
		reads:  p.Target,
		writes: p.Target,
		work:   func(ctx context.Context, r *run) error { return work(ctx, r, p) },
	}, nil
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

// build makes the pool's storage unless it is there.
func (p pool) build(ctx context.Context) error {
	err := p.backend.Build(ctx, p.Pool, false)
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
