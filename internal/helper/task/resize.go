package task

import (
	"context"
	"fmt"

	"storaged/internal/backends"
	"storaged/internal/diskio"
	"storaged/internal/helper"
	"storaged/internal/ipc"
	"storaged/internal/operation"
	"storaged/internal/quantity"
	"storaged/internal/record"
)

// Resize makes the task of an operation.
func Resize(o *operation.Resize) (helper.Task, error) {
	at, err := volume(o, "target", o.Volume)
	if err != nil {
		return helper.Task{}, err
	}
	if err := needed(o, "capacity", o.Capacity != 0); err != nil {
		return helper.Task{}, err
	}
	capacity := o.Capacity
	w := resize{&helper.Volume{Location: at, Access: backends.Grow}, diskio.ResizeSpec{Capacity: capacity, Shrink: o.Shrink, Allocate: o.Allocate}}
	t := helper.Task{
		Doing:  fmt.Sprintf("resize %q to %s", at.Path, quantity.FormatExact(capacity)),
		Done:   fmt.Sprintf("resized %q to %s", at.Path, quantity.FormatExact(capacity)),
		Undone: fmt.Sprintf("%q keeps the size it had, unless it was to shrink", at.Path),
		Writes: at.Path,
		Opens:  []helper.Opening{w.at},
		Work:   w.work,
	}
	if w.spec.Shrink {
		w.at.Access = backends.WriteExclusive
		t.ByHand = spares(at)
		t.Ask = fmt.Sprintf("%q (%s) will lose what lies behind %s", at.Path, length(at.Path), quantity.FormatExact(capacity))
	}
	return t, nil
}

type resize struct {
	at   *helper.Volume
	spec diskio.ResizeSpec
}

func (w resize) work(ctx context.Context, r *helper.Run) error {
	sized, ok := w.at.Volume.(backends.Resizer)
	if !ok {
		return ipc.Errorf(record.Unsupported, "volumes of pool type %q cannot be resized", w.at.Pool.Type)
	}
	size, err := sizeOf(w.at.Volume)
	if err != nil {
		return err
	}
	if w.spec.Capacity < size && !w.spec.Shrink {
		return ipc.Errorf(record.Invalid, "%q has %s; a capacity of %s would cut its end off (--shrink)", w.at.Path, quantity.FormatBoth(size), quantity.FormatBoth(w.spec.Capacity))
	}
	r.Plan(helper.Moving("resize", max(w.spec.Capacity-size, 0)))
	r.Next(0)
	did, err := sized.Resize(ctx, r.Pacer, w.spec)
	if err != nil {
		return w.undo(r, sized, size, err)
	}
	r.Report.Method, r.Report.Bytes = did.Method, max(w.spec.Capacity-size, 0)
	if w.spec.Allocate && !did.Kept {
		r.Warn("the file system has reserved only %s; its space may run out later", quantity.FormatBytes(did.Allocated))
	}
	return nil
}

// undo gives a volume that did not grow as asked the size it had. What was cut
// off does not come back.
func (w resize) undo(r *helper.Run, v backends.Resizer, size int64, cause error) error {
	if w.spec.Capacity < size {
		r.Report.Rollback = string(record.RollbackKept)
		return cause
	}
	r.RollingBack()
	pacer := diskio.NewPacer() // the run's may be paused
	_, err := v.Resize(context.Background(), pacer, diskio.ResizeSpec{Capacity: size, Shrink: true})
	if err != nil {
		r.Report.Rollback = string(record.RollbackFailed)
		r.Warn("cannot give %q the size back that it had, %s: %v", w.at.Path, quantity.FormatBoth(size), err)
		return cause
	}
	r.Report.Rollback = string(record.RollbackDone)
	return cause
}
