package task

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"storaged/internal/backends"
	"storaged/internal/helper"
	"storaged/internal/ipc"
	"storaged/internal/operation"
)

// PoolLook makes the task of an operation.
func PoolLook(o *operation.PoolLook) (helper.Task, error) {
	t, err := poolTask(o, o.Volume, said{"look at volumes of", "looked at volumes of", true}, func(ctx context.Context, r *helper.Run, p *helper.Pool) error {
		return change(ctx, r, "look", func() error {
			for _, name := range slices.Concat(o.Names, r.Names) {
				it, err := look(ctx, p, name)
				if err != nil {
					return err
				}
				r.Report.Items = append(r.Report.Items, it)
			}
			return nil
		})
	})
	if err == nil {
		t.Again = func() (helper.Task, error) { return PoolLook(o) }
	}
	return t, err
}

// look tells what a volume is. That it is not there, or cannot be looked at, is of that
// volume alone: an error is of the pool.
func look(ctx context.Context, p *helper.Pool, name string) (ipc.Item, error) {
	at := p.At(name)
	var info backends.VolumeInfo
	err := checkName(p.Backend, name)
	if err == nil {
		info, err = p.Backend.Look(ctx, p.Pool, name)
	}
	if err == nil {
		return helper.Item(info), nil
	}
	if _, away := errors.AsType[*backends.AwayError](err); away || ctx.Err() != nil {
		return ipc.Item{}, err
	}
	fault := helper.Fault(err, helper.Task{Doing: fmt.Sprintf("look at %q", at.Path), Reads: at.Path})
	return ipc.Item{Name: name, Path: at.Path, Error: fault}, nil
}
