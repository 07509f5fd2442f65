package task

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"storaged/internal/backends"
	"storaged/internal/helper"
	"storaged/internal/ipc"
	"storaged/internal/record"
)

// walk goes through the volumes of a pool, one after the other. Between two of
// them others may do with the pool's volumes what they like: none is open then,
// and each is looked at anew when its turn comes.
type walk struct {
	*helper.Pool
	run     *helper.Run
	volumes []backends.VolumeInfo
	failed  int
}

// begin takes down the volumes that there are and that are wanted, and plans to
// deal with their bytes in a phase of that name.
func (w *walk) begin(ctx context.Context, phase string, wanted func(backends.VolumeInfo) bool) error {
	w.run.Plan(helper.Scanning(), ipc.PlanPhase{Name: phase, Unit: "bytes", Weight: 1, Data: true, Mask: helper.Everybody})
	w.run.Next(0)
	if err := w.run.Step(ctx, func() error { return w.list(ctx, wanted) }); err != nil {
		return err
	}
	total := int64(0)
	for _, v := range w.volumes {
		total += min(v.Size, math.MaxInt64-total) // sparse files may be longer together than a number can be
	}
	dealing := helper.Moving(phase, total)
	dealing.Mask = helper.Everybody
	w.run.Plan(helper.Scanned(), dealing)
	w.run.Next(1)
	w.run.Pacer.Foresee(total)
	return nil
}

// list takes down the volumes that there are, by name.
func (w *walk) list(ctx context.Context, wanted func(backends.VolumeInfo) bool) error {
	_, err := w.Backend.Refresh(ctx, w.Pool.Pool, func(v backends.VolumeInfo) error {
		switch _, _, snapshot := record.ParseSnapshot(v.Name); {
		case snapshot: // it is its volume's
		case v.Ignored == "" && wanted(v):
			w.volumes = append(w.volumes, v)
		case v.Ignored != "" && v.ID != "" && wanted(v):
			w.run.Warn("%q is left alone: %s", v.Name, v.Ignored)
		}
		return nil
	})
	slices.SortFunc(w.volumes, func(a, b backends.VolumeInfo) int { return cmp.Compare(a.Name, b.Name) })
	return err
}

// each deals with one volume after the other until an error ends that.
func (w *walk) each(ctx context.Context, deal func(context.Context, backends.VolumeInfo) error) error {
	if len(w.volumes) > 1 {
		w.run.Windows.Expect(w.volumes[0].Size)
	}
	for i, v := range w.volumes {
		if err := deal(ctx, v); err != nil {
			return err
		}
		if i+1 == len(w.volumes) {
			return nil
		}
		next := w.run.Pacer.Counts().Durable + w.volumes[i+1].Size
		if err := w.run.Windows.Visit(ctx, next); err != nil {
			return err
		}
	}
	return nil
}

// at is where a volume of the pool lies.
func (w *walk) at(v backends.VolumeInfo) helper.Location {
	return helper.Location{Path: v.Path, Pool: w.Pool, Name: v.Name, ID: v.ID}
}

// judged says in the item how it went. That a volume was deleted meanwhile is
// no failure.
func (w *walk) judged(it ipc.Item, do string, err error) ipc.Item {
	switch {
	case err == nil:
		it.State = string(record.Succeeded)
		return it
	case errors.Is(err, backends.ErrNotFound):
		it.State = skipped
		w.run.Warn("volume %q was deleted meanwhile", it.Name)
	default:
		it.State = string(record.Failed)
		w.failed++
	}
	it.Error = helper.Fault(err, helper.Task{Doing: fmt.Sprintf("%s %q", do, it.Path), Reads: it.Path})
	if it.State == string(record.Failed) {
		w.run.Warn("%s", it.Error.Message)
	}
	return it
}

// skipped is the state of an item with which nothing was done, and with which
// that is no failure.
const skipped = "skipped"
