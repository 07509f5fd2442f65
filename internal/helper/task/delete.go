package task

import (
	"context"
	"fmt"

	"storaged/internal/backends"
	"storaged/internal/helper"
	"storaged/internal/operation"
	"storaged/internal/wipe"
)

// Delete makes the task of an operation.
func Delete(o *operation.Delete) (helper.Task, error) {
	at, err := volume(o, "target", o.Volume)
	if err != nil {
		return helper.Task{}, err
	}
	w := deletion{at: at}
	undone := fmt.Sprintf("%q is not deleted", at.Path)
	if o.Algorithm != "" {
		w.wipe = &wiping{at: at, accept: o.AcceptLimits, spec: wipe.Spec{Algorithm: o.Algorithm}}
		undone += ", but may be partly overwritten"
	}
	return helper.Task{
		Doing:   fmt.Sprintf("delete %q", at.Path),
		Done:    fmt.Sprintf("deleted %q", at.Path),
		Undone:  undone,
		Ask:     fmt.Sprintf("%q (%s) will be deleted", at.Path, length(at.Path)),
		Reads:   at.Path,
		Writes:  at.Path,
		ByHand:  spares(at),
		Changes: []helper.Pool{at.In()},
		Work:    w.work,
	}, nil
}

type deletion struct {
	at   helper.Location
	wipe *wiping // nil: without
}

func (w deletion) work(ctx context.Context, r *helper.Run) error {
	if w.wipe == nil {
		r.Plan(helper.Single("delete"))
		return w.remove(ctx, r, 0)
	}
	err := r.InPlace(ctx, w.at, func(v backends.Volume) error {
		info, err := v.Info()
		if err != nil {
			return err
		}
		w.at.ID = info.ID // what was wiped is what is deleted
		r.Plan(w.wipe.phase(info.Size), helper.Single("delete"))
		r.Next(0)
		return w.wipe.overwrite(ctx, r, v)
	})
	if err != nil {
		return err
	}
	return w.remove(ctx, r, 1)
}

// remove deletes the volume. There is no way back from that.
func (w deletion) remove(ctx context.Context, r *helper.Run, phase int) error {
	v, err := r.Take(ctx, w.at)
	if err != nil {
		return err
	}
	defer v.Close() // it is gone, or as it was
	r.Next(phase)
	return r.Step(ctx, func() error {
		if err := r.Seal(); err != nil {
			return err
		}
		if err := v.Remove(); err != nil {
			return err
		}
		r.Report.Volume = nil
		return nil
	})
}
