package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"storaged/internal/backends"
	"storaged/internal/backends/all"
	"storaged/internal/ipc"
	"storaged/internal/record"
)

func poolFlags(more ...cli.Flag) []cli.Flag {
	return append([]cli.Flag{
		&cli.StringFlag{Name: "type", Value: "dir", Usage: "`TYPE` of the pool, default dir"},
		&cli.StringFlag{Name: "target", Usage: "`PATH` of the pool"},
	}, more...)
}

func poolBuildCommand() *cli.Command {
	return taskCommand(cli.Command{
		Name: "pool-build", Usage: "make the storage of a pool",
		Flags: poolFlags(&cli.BoolFlag{Name: "overwrite", Usage: "even if there is something already"}, yesFlag()),
	}, "--type dir --target /var/lib/images", func(c *cli.Context) (task, error) {
		overwrite := c.Bool("overwrite")
		t, err := poolTask(c, "build", "built", func(ctx context.Context, r *run, p pool) error {
			return p.change(ctx, r, "build", func() error { return p.backend.Build(ctx, p.Pool, overwrite) })
		})
		if overwrite {
			t.ask = fmt.Sprintf("what is at %q will be overwritten", c.String("target"))
		}
		return t, err
	})
}

func poolStartCommand() *cli.Command {
	return taskCommand(cli.Command{
		Name: "pool-start", Usage: "make the volumes of a pool reachable, and list them",
		Flags: poolFlags(&cli.BoolFlag{Name: "build", Usage: "make its storage before, unless it is there"}),
	}, "--type dir --target /var/lib/images --build", func(c *cli.Context) (task, error) {
		build := c.Bool("build")
		return poolTask(c, "start", "started", func(ctx context.Context, r *run, p pool) error { return p.start(ctx, r, build) })
	})
}

func poolStopCommand() *cli.Command {
	return taskCommand(cli.Command{
		Name: "pool-stop", Usage: "make the volumes of a pool unreachable", Flags: poolFlags(),
	}, "--type dir --target /var/lib/images", func(c *cli.Context) (task, error) {
		return poolTask(c, "stop", "stopped", func(ctx context.Context, r *run, p pool) error {
			return p.change(ctx, r, "stop", func() error { return p.backend.Stop(ctx, p.Pool) })
		})
	})
}

func poolRefreshCommand() *cli.Command {
	return taskCommand(cli.Command{
		Name: "pool-refresh", Usage: "list the volumes of a pool",
		Flags: poolFlags(poolIDFlag("pool-id", "the pool"),
			&cli.StringSliceFlag{Name: "discard", Usage: "before, remove what the job `UUID` left unfinished; may be repeated"}),
	}, "--type dir --target /var/lib/images -o json", func(c *cli.Context) (task, error) {
		id, err := poolID(c, "pool-id")
		if err != nil {
			return task{}, err
		}
		return poolTask(c, "refresh", "read", func(ctx context.Context, r *run, p pool) error {
			p.ID = id
			r.plan(scanning())
			p.discard(ctx, r, c.StringSlice("discard"))
			return p.refresh(ctx, r, 0)
		})
	})
}

func poolSpaceCommand() *cli.Command {
	return taskCommand(cli.Command{
		Name: "pool-space", Usage: "tell how much room a pool has",
		Description: "The file system is asked; no volume is looked at.",
		Flags:       poolFlags(poolIDFlag("pool-id", "the pool")),
	}, "--type dir --target /var/lib/images -o json", func(c *cli.Context) (task, error) {
		id, err := poolID(c, "pool-id")
		if err != nil {
			return task{}, err
		}
		return poolTask(c, "ask the space of", "asked the space of", func(ctx context.Context, r *run, p pool) error {
			p.ID = id
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
		Target: p.Target, Path: info.Path, Device: info.ID.Device, Inode: info.ID.Inode, Stamp: info.ID.Stamp, Disk: info.Disk,
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
	return taskCommand(cli.Command{
		Name: "pool-delete", Usage: "destroy the storage of a pool",
		Flags: poolFlags(&cli.BoolFlag{Name: "with-volumes", Usage: "and its volumes"}, yesFlag(),
			poolIDFlag("pool-id", "the pool"),
			&cli.StringSliceFlag{Name: "other", Usage: "refuse if the directory is `DEVICE:INODE[:STAMP]`, that of a pool in use; may be repeated"}),
	}, "--type dir --target /var/lib/images --yes", func(c *cli.Context) (task, error) {
		withVolumes := c.Bool("with-volumes")
		id, others, err := poolIDs(c)
		if err != nil {
			return task{}, err
		}
		t, err := poolTask(c, "delete", "deleted", func(ctx context.Context, r *run, p pool) error {
			p.ID, p.Others = id, others
			return p.change(ctx, r, "delete", func() error { return p.backend.Delete(ctx, p.Pool, withVolumes) })
		})
		t.ask = fmt.Sprintf("the pool at %q will be deleted", c.String("target"))
		if withVolumes {
			t.ask = fmt.Sprintf("the pool at %q will be deleted with all its volumes", c.String("target"))
		}
		return t, err
	})
}

// poolIDs reads which directory the pool has, and which others have.
func poolIDs(c *cli.Context) (id backends.PoolID, others []backends.PoolID, err error) {
	if id, err = poolID(c, "pool-id"); err != nil {
		return id, nil, err
	}
	for _, s := range c.StringSlice("other") {
		o, err := backends.ParsePoolID(s)
		if err != nil {
			return id, nil, record.Errorf(record.Invalid, "--other: %s", err)
		}
		others = append(others, o)
	}
	return id, others, nil
}

// pool is a pool and its driver.
type pool struct {
	backends.Pool
	backend backends.Backend
}

// poolTask makes a task about the pool of --type and --target.
func poolTask(c *cli.Context, do, done string, work func(ctx context.Context, r *run, p pool) error) (task, error) {
	p, err := targetPool(c)
	if err != nil {
		return task{}, err
	}
	return task{
		doing:  fmt.Sprintf("%s pool %q", do, p.Target),
		done:   fmt.Sprintf("%s pool %q", done, p.Target),
		undone: "what is done already stays so",
		reads:  p.Target,
		writes: p.Target,
		work:   func(ctx context.Context, r *run) error { return work(ctx, r, p) },
	}, nil
}

// targetPool finds the pool of --type and --target.
func targetPool(c *cli.Context) (pool, error) {
	path, err := needed(c, "target")
	if err != nil {
		return pool{}, err
	}
	backend, err := all.Lookup(c.String("type"))
	if err != nil {
		return pool{}, record.Errorf(record.Unsupported, "%s", err)
	}
	path, err = absolute(path)
	return pool{backends.Pool{Type: c.String("type"), Target: path}, backend}, err
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
	if build {
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
