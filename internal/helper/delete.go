package helper

import (
	"context"
	"fmt"

	"storaged/internal/backends"
	"storaged/internal/operation"
	"storaged/internal/wipe"
)

// Delete makes the task of an operation.
func Delete(o *operation.Delete) (Task, error) {
	at, err := volume(o, "target", o.Volume)
	if err != nil {
		return Task{}, err
	}
	w := deletion{at: at}
	undone := fmt.Sprintf("%q is not deleted", at.path)
	if o.Algorithm != "" {
		w.wipe = &wiping{at: at, accept: o.AcceptLimits, spec: wipe.Spec{Algorithm: o.Algorithm}}
		undone += ", but may be partly overwritten"
	}
	return Task{
		doing:   fmt.Sprintf("delete %q", at.path),
		done:    fmt.Sprintf("deleted %q", at.path),
		undone:  undone,
		ask:     fmt.Sprintf("%q (%s) will be deleted", at.path, length(at.path)),
		reads:   at.path,
		writes:  at.path,
		spares:  &at,
		changes: []pool{at.in()},
		work:    w.work,
	}, nil
}

type deletion struct {
	at   place
	wipe *wiping // nil: without
}

func (w deletion) work(ctx context.Context, r *run) error {
	if w.wipe == nil {
		r.plan(single("delete"))
		return w.remove(ctx, r, 0)
	}
	err := r.inPlace(ctx, w.at, func(v backends.Volume) error {
		info, err := v.Info()
		if err != nil {
			return err
		}
		w.at.id = info.ID() // what was wiped is what is deleted
		r.plan(w.wipe.phase(info.Size), single("delete"))
		r.next(0)
		return w.wipe.overwrite(ctx, r, v)
	})
	if err != nil {
		return err
	}
	return w.remove(ctx, r, 1)
}

// remove deletes the volume. There is no way back from that.
func (w deletion) remove(ctx context.Context, r *run, phase int) error {
	v, err := r.take(ctx, w.at)
	if err != nil {
		return err
	}
	defer v.Close() // it is gone, or as it was
	r.next(phase)
	return r.step(ctx, func() error {
		if err := r.seal(); err != nil {
			return err
		}
		if err := v.Remove(); err != nil {
			return err
		}
		r.report.Volume = nil
		return nil
	})
}
