package task

import (
	"cmp"
	"context"
	"fmt"

	"storaged/internal/helper"
	"storaged/internal/ipc"
	"storaged/internal/operation"
	"storaged/internal/wipe"
)

// Delete makes the task of an operation.
func Delete(o *operation.Delete) (helper.Task, error) {
	at, err := volume(o, "target", o.Volume)
	if err != nil {
		return helper.Task{}, err
	}
	w := deletion{at: &helper.Volume{Location: at, Leaves: true}}
	undone := fmt.Sprintf("%q is not deleted", at.Path)
	if o.Algorithm != "" {
		w.wipe = &wiping{path: at.Path, accept: o.AcceptLimits, spec: wipe.Spec{Algorithm: o.Algorithm}}
		undone += ", but may be partly overwritten"
	}
	return helper.Task{
		Doing:  fmt.Sprintf("delete %q", at.Path),
		Done:   fmt.Sprintf("deleted %q", at.Path),
		Undone: undone,
		Ask:    fmt.Sprintf("%q (%s) will be deleted", at.Path, length(at.Path)),
		Reads:  at.Path,
		Writes: at.Path,
		ByHand: spares(at),
		Opens:  []helper.Opening{w.at},
		Work:   w.work,
	}, nil
}

type deletion struct {
	at   *helper.Volume
	wipe *wiping // nil: without
}

// work deletes the volume. There is no way back from that.
func (w deletion) work(ctx context.Context, r *helper.Run) error {
	phases := []ipc.PlanPhase{helper.Single("delete")}
	if w.wipe != nil {
		size, err := sizeOf(w.at.Volume)
		if err != nil {
			return err
		}
		phases = append([]ipc.PlanPhase{w.wipe.phase(size)}, phases...)
	}
	r.Plan(phases...)
	if w.wipe != nil {
		r.Next(0)
		if err := w.wipe.overwrite(ctx, r, w.at.Volume.Content()); err != nil {
			return cmp.Or(err, r.Describe(w.at.Volume))
		}
	}
	r.Next(len(phases) - 1)
	return r.Step(ctx, func() error {
		if err := r.Seal(); err != nil {
			return err
		}
		return w.at.Taken().Remove()
	})
}
