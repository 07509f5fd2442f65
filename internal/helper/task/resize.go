package task

import (
	"cmp"
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
	opened, err := viewOf(o, &helper.Volume{Location: at, Access: backends.Grow, Sizes: []int64{capacity}}, imageIn(record.AsRaw, o.Format), o.Image)
	if err != nil {
		return helper.Task{}, err
	}
	w := resize{opened, diskio.ResizeSpec{Capacity: capacity, Shrink: o.Shrink, Allocate: o.Allocate}}
	t := helper.Task{
		Doing:   fmt.Sprintf("resize %q to %s", at.Path, quantity.FormatExact(capacity)),
		Done:    fmt.Sprintf("resized %q to %s", at.Path, quantity.FormatExact(capacity)),
		Undone:  fmt.Sprintf("%q keeps the size it had, unless it was to shrink", at.Path),
		Writes:  at.Path,
		Secrets: o.Files,
		Opens:   w.opens(),
		Images:  w.images(3),
		Work:    w.work,
	}
	if w.isImage() {
		w.at.Access, t.Work = backends.WriteExclusive, w.image
	}
	if w.spec.Shrink {
		w.at.Access = backends.WriteExclusive
		t.ByHand = spares(at)
		t.Ask = fmt.Sprintf("%q (%s) will lose what lies behind %s", at.Path, length(at.Path), quantity.FormatExact(capacity))
	}
	return t, nil
}

type resize struct {
	view
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
		return w.cuts(size)
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
	w.undone(r, size, err)
	return cause
}

// undone says what came of an undoing.
func (w resize) undone(r *helper.Run, size int64, err error) {
	r.Report.Rollback = string(record.RollbackDone)
	if err != nil {
		r.Report.Rollback = string(record.RollbackFailed)
		r.Warn("cannot give %q the size back that it had, %s: %v", w.at.Path, quantity.FormatBoth(size), err)
	}
}

// cuts refuses to take away what nobody has given up.
func (w resize) cuts(size int64) error {
	return ipc.Errorf(record.Invalid, "%q has %s; a capacity of %s would cut its end off (--shrink)", w.at.Path, quantity.FormatBoth(size), quantity.FormatBoth(w.spec.Capacity))
}

// image changes what a guest sees of an image.
func (w resize) image(ctx context.Context, r *helper.Run) error {
	has, err := w.capacity()
	if err != nil {
		return err
	}
	switch {
	case w.spec.Capacity < has && !w.spec.Shrink:
		return w.cuts(has)
	case w.spec.Capacity < has && !record.FormatCan(w.format, record.VerbShrink):
		return ipc.Errorf(record.Unsupported, "%q is in format %s, in which a content cannot be made smaller", w.at.Path, w.format)
	case w.spec.Capacity > has && !record.FormatCan(w.format, record.VerbGrow):
		return ipc.Errorf(record.Unsupported, "%q is in format %s, in which a content cannot be made larger", w.at.Path, w.format)
	}
	phases := []ipc.PlanPhase{helper.Single("resize")}
	written := w.spec.Capacity > has && (w.spec.Allocate || !operation.BeginsAsZeros(w.format)) // no image gets storage by less
	if written {
		phases = append(phases, helper.Moving("zero", w.spec.Capacity-has))
	}
	r.Plan(phases...)
	r.Next(0)
	err = r.ResizeDisk(ctx, w.at.Volume, w.disk(true), w.spec.Capacity)
	if err == nil && written {
		r.Next(1)
		r.Report.Method = diskio.MethodWrite
		err = w.with(ctx, r, true, func(c diskio.Content) error { return writeZeros(ctx, r, c, has, w.spec.Capacity) })
	}
	if err != nil {
		err = w.undoImage(ctx, r, has, err)
	} else {
		r.Report.Bytes = max(w.spec.Capacity-has, 0)
	}
	_, bad := reread(r, w.at.Volume, w.format)
	return cmp.Or(err, bad)
}

// capacity is what the image's header says.
func (w resize) capacity() (int64, error) {
	header, err := w.header()
	return header.Capacity, err
}

// undoImage gives an image that did not grow as asked the capacity that it had,
// if it has another by now.
func (w resize) undoImage(ctx context.Context, r *helper.Run, had int64, cause error) error {
	now, err := w.capacity()
	if err == nil && now == had {
		return cause
	}
	if err != nil || now < had || !record.FormatCan(w.format, record.VerbShrink) {
		r.Report.Rollback = string(record.RollbackKept)
		return cause
	}
	r.RollingBack()
	ctx, done := r.Completing(ctx)
	defer done()
	err = r.ResizeDisk(ctx, w.at.Volume, w.disk(true), had)
	w.undone(r, had, err)
	return cause
}
