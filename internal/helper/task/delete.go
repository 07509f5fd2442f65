package task

import (
	"cmp"
	"context"
	"encoding/json"
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
	with, err := chainOf(o, operation.Chain{Layers: o.Snapshots})
	if err != nil {
		return helper.Task{}, err
	}
	w := deletion{at: &helper.Volume{Location: at, Leaves: true}}
	gone := []helper.Location{at}
	for _, l := range with {
		l.Volume.Leaves = true
		w.with, gone = append(w.with, l.Volume), append(gone, l.Volume.Location)
	}
	undone := fmt.Sprintf("%q is not deleted", at.Path)
	if o.Algorithm != "" {
		w.wipe = &wiping{path: at.Path, accept: o.AcceptLimits, spec: wipe.Spec{Algorithm: o.Algorithm}}
		w.at.Admits = w.wipe.admits
		undone += ", but may be partly overwritten"
	}
	return helper.Task{
		Doing:  fmt.Sprintf("delete %q", at.Path),
		Done:   fmt.Sprintf("deleted %q", at.Path),
		Undone: undone,
		Ask:    fmt.Sprintf("%q (%s) will be deleted", at.Path, length(at.Path)),
		Reads:  at.Path,
		Writes: at.Path,
		ByHand: sparesBut(gone, gone),
		Opens:  append([]helper.Opening{w.at}, with.Openings()...),
		Work:   w.work,
	}, nil
}

type deletion struct {
	at   *helper.Volume
	with []*helper.Volume // its snapshots, each before those that it stands on
	wipe *wiping          // nil: without
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
		if err := w.remember(r); err != nil {
			return err
		}
		if err := remove(r, w.at); err != nil {
			return err
		}
		for i, s := range w.with {
			if err := s.Taken().Remove(); err != nil {
				return fmt.Errorf("the volume is deleted, and of its snapshots %d are left, from %q on: %w", len(w.with)-i, s.Path, err)
			}
		}
		return nil
	})
}

// remember keeps which files the snapshots are. The volume goes first: of snapshots
// without a volume nothing looks complete that is not. Once it is gone, whoever settles
// the job has them go too.
func (w deletion) remember(r *helper.Run) error {
	if len(w.with) == 0 {
		return nil
	}
	files := map[string][]byte{}
	for _, s := range w.with {
		id, err := s.Taken().Identity()
		if err != nil {
			return err
		}
		files[s.Name] = id
	}
	b, err := json.Marshal(files)
	if err != nil {
		return err
	}
	return r.Records.Save(b)
}

// remove deletes a volume, unless a cancel came before.
func remove(r *helper.Run, v *helper.Volume) error {
	if err := r.Seal(); err != nil {
		return err
	}
	return v.Taken().Remove()
}
