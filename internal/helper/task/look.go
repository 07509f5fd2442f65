package task

import (
	"context"
	"fmt"

	"storaged/internal/helper"
	"storaged/internal/operation"
)

// Look makes the task of an operation.
func Look(o *operation.Look) (helper.Task, error) {
	at, err := volume(o, "target", o.Volume)
	if err != nil {
		return helper.Task{}, err
	}
	return helper.Task{
		Doing: fmt.Sprintf("look at %q", at.Path),
		Done:  fmt.Sprintf("looked at %q", at.Path),
		Reads: at.Path,
		Opens: []helper.Opening{at.Pool},
		Work:  func(ctx context.Context, r *helper.Run) error { return look(ctx, r, at) },
	}, nil
}

func look(ctx context.Context, r *helper.Run, at helper.Location) error {
	r.Plan(helper.Single("look"))
	r.Next(0)
	return r.Step(ctx, func() error {
		info, err := at.Pool.Backend.Look(ctx, at.Pool.Pool, at.Name)
		if err != nil {
			return err
		}
		it := helper.Item(info)
		r.Report.Volume = &it
		return nil
	})
}
