package helper

import (
	"context"
	"fmt"

	"storaged/internal/operation"
)

// PoolBuild makes the task of an operation.
func PoolBuild(o *operation.PoolBuild) (Task, error) {
	t, err := poolTask(o, o.Volume, said{"build", "built"}, func(ctx context.Context, r *run, p pool) error {
		return p.change(ctx, r, "build", func() error { return p.make(ctx, o.Overwrite) })
	})
	if o.Overwrite {
		t.ask = fmt.Sprintf("what is at %q will be overwritten", o.Path)
	}
	return t, err
}

// PoolStart makes the task of an operation.
func PoolStart(o *operation.PoolStart) (Task, error) {
	return poolTask(o, o.Volume, said{"start", "started"}, func(ctx context.Context, r *run, p pool) error { return p.start(ctx, r, o.Build) })
}

// PoolStop makes the task of an operation.
func PoolStop(o *operation.PoolStop) (Task, error) {
	return poolTask(o, o.Volume, said{"stop", "stopped"}, func(ctx context.Context, r *run, p pool) error {
		return p.change(ctx, r, "stop", func() error { return p.backend.Stop(ctx, p.Pool) })
	})
}

// PoolRefresh makes the task of an operation.
func PoolRefresh(o *operation.PoolRefresh) (Task, error) {
	return poolTask(o, o.Volume, said{"refresh", "read"}, func(ctx context.Context, r *run, p pool) error {
		r.plan(scanning())
		p.discard(ctx, r, o.Discard)
		return p.refresh(ctx, r, 0)
	})
}

// PoolSpace makes the task of an operation.
func PoolSpace(o *operation.Space) (Task, error) {
	return poolTask(o, o.Volume, said{"ask the space of", "asked the space of"}, func(ctx context.Context, r *run, p pool) error {
		return p.change(ctx, r, "space", func() error {
			figures, err := p.space(ctx)
			r.report.Pool = &figures
			return err
		})
	})
}

// PoolDelete makes the task of an operation.
func PoolDelete(o *operation.PoolDelete) (Task, error) {
	t, err := poolTask(o, o.Volume, said{"delete", "deleted"}, func(ctx context.Context, r *run, p pool) error {
		if err := p.spare(o.Others); err != nil {
			return err
		}
		return p.change(ctx, r, "delete", func() error { return p.unmake(ctx, o.WithVolumes) })
	})
	t.ask = fmt.Sprintf("the pool at %q will be deleted", o.Path)
	if o.WithVolumes {
		t.ask = fmt.Sprintf("the pool at %q will be deleted with all its volumes", o.Path)
	}
	return t, err
}

// said is what a task does to a pool, in words: the infinitive and the participle.
type said struct{ do, done string }

// poolTask makes a task about the pool of --target.
func poolTask(o Tasked, v operation.Volume, verb said, work func(ctx context.Context, r *run, p pool) error) (Task, error) {
	p, err := poolOf(o, "target", v)
	if err != nil {
		return Task{}, err
	}
	return Task{
		doing:  fmt.Sprintf("%s pool %q", verb.do, p.Target),
		done:   fmt.Sprintf("%s pool %q", verb.done, p.Target),
		undone: "what is done already stays so",
		reads:  p.Target,
		writes: p.Target,
		work:   func(ctx context.Context, r *run) error { return work(ctx, r, p) },
	}, nil
}
