package helper

import (
	"context"
	"fmt"

	"storaged/internal/operation"
)

// Look makes the task of an operation.
func Look(o *operation.Look) (Task, error) {
	at, err := volume(o, "target", o.Volume)
	if err != nil {
		return Task{}, err
	}
	return Task{
		doing: fmt.Sprintf("look at %q", at.path),
		done:  fmt.Sprintf("looked at %q", at.path),
		reads: at.path,
		work:  func(ctx context.Context, r *run) error { return look(ctx, r, at) },
	}, nil
}

func look(ctx context.Context, r *run, at place) error {
	r.plan(single("look"))
	r.next(0)
	return r.step(ctx, func() error {
		info, err := at.backend.Look(ctx, at.pool, at.name)
		if err != nil {
			return err
		}
		it := item(info)
		r.report.Volume = &it
		return nil
	})
}
