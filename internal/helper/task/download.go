package task

import (
	"cmp"
	"context"
	"fmt"

	"storaged/internal/diskio"
	"storaged/internal/helper"
	"storaged/internal/ipc"
	"storaged/internal/operation"
	"storaged/internal/quantity"
	"storaged/internal/record"
	"storaged/internal/sparse"
)

// Download makes the task of an operation.
func Download(o *operation.Download) (helper.Task, error) {
	w := download{to: &outlet{}, declared: o.Format, off: o.Offset, length: bound(o.Length, -1), size: bound(o.Size, -1)}
	at, err := volume(o, "volume", o.Volume)
	if err != nil {
		return helper.Task{}, err
	}
	if err := needed(o, "target", o.To != ""); err != nil {
		return helper.Task{}, err
	}
	if w.to.external, err = externalOf(o.To, o.Form); err != nil {
		return helper.Task{}, err
	}
	if w.sum, err = checksumOf(o.Checksum); err != nil {
		return helper.Task{}, err
	}
	w.to.comes = &helper.Volume{Location: at}
	if w.view, err = viewOf(o, w.to.comes, imageIn(o.As, o.Format), o.Image); err != nil {
		return helper.Task{}, err
	}
	t := w.task()
	t.Secrets = o.Files
	return t, nil
}

type download struct {
	view
	to       *outlet
	off      int64  // bytes
	length   int64  // -1: up to the end
	size     int64  // that the volume must have, -1 is any
	declared string // format of the volume
	sum      checksum
	kept     watches
}

func (w download) task() helper.Task {
	t := helper.Task{
		Doing:  fmt.Sprintf("download %q to %s", w.at.Path, w.to),
		Done:   fmt.Sprintf("downloaded %q to %s", w.at.Path, w.to),
		Undone: fmt.Sprintf("%s is not complete", w.to),
		Reads:  w.at.Path,
		Writes: w.to.path(),
		Room:   "make room where the content goes, or send it elsewhere",
		Stdout: w.to.given == "-",
		Opens:  append(w.opens(), w.to),
		Images: w.images(1),
		Work:   w.work,
	}
	if w.to.byName() {
		t.Undone = fmt.Sprintf("%s is as it was", w.to)
	}
	return t
}

func (w download) work(ctx context.Context, r *helper.Run) error {
	if !w.isImage() {
		if err := (copying{from: w.at.Path, format: w.declared, both: true}).admit(w.at.Volume); err != nil {
			return err
		}
	}
	err := w.with(ctx, r, false, func(c diskio.Content) error { return w.read(ctx, r, c) })
	if err == nil && w.to.byName() {
		err = r.Step(ctx, func() error {
			if err := r.Seal(); err != nil {
				return err
			}
			return w.to.publish()
		})
	}
	return cmp.Or(err, r.Describe(w.at.Volume))
}

// read sends the content.
func (w download) read(ctx context.Context, r *helper.Run, c diskio.Content) error {
	size, err := c.Size()
	if err == nil {
		w.length, err = w.extent(size)
	}
	if err == nil {
		w.kept, err = w.watch(ctx, r)
	}
	if err != nil {
		return err
	}
	r.Plan(helper.Moving("download", w.length))
	r.Next(0)
	return w.send(ctx, r, c)
}

// extent is how much is to be read of a volume of that size.
func (w download) extent(size int64) (int64, error) {
	switch {
	case w.size >= 0 && w.size != size:
		return 0, ipc.Errorf(record.Changed, "%q has %s, not %s; somebody has changed its size", w.at.Path, quantity.FormatBoth(size), quantity.FormatBoth(w.size))
	case w.off > size, w.length > size-w.off:
		return 0, ipc.Errorf(record.RangeUnsat, "%q has %s, and ends before what is to be read", w.at.Path, quantity.FormatBoth(size))
	case w.length < 0:
		return size - w.off, nil
	}
	return w.length, nil
}

func (w download) send(ctx context.Context, r *helper.Run, c diskio.Content) error {
	if w.to.form != "" {
		return w.stream(ctx, r, c)
	}
	return w.fill(ctx, r, c)
}

func (w download) stream(ctx context.Context, r *helper.Run, c diskio.Content) error {
	f := w.to.file
	var to diskio.Sink = rawSink{f}
	end := func() error { return nil }
	if w.to.form == streamSparse {
		s := sparse.NewWriter(f)
		to, end = s, s.Close
	}
	h := w.sum.hash()
	did, err := diskio.Send(ctx, r.Pacer, diskio.SendSpec{Src: c, Off: w.off, Len: w.length, To: to, Hash: h})
	r.Report.Method, r.Report.Bytes = diskio.MethodCopy, did.Bytes
	if err = w.kept.ended(err); err == nil {
		err = w.sum.judgeMoved(r, did, h)
	}
	if err == nil {
		err = end()
	}
	return err
}

// fill makes an open file the content.
func (w download) fill(ctx context.Context, r *helper.Run, c diskio.Content) error {
	f := w.to.file.File
	if err := cmp.Or(f.Truncate(0), f.Truncate(w.length)); err != nil {
		return fmt.Errorf("cannot give %s its size: %w", w.to, err)
	}
	h := w.sum.hash()
	did, err := diskio.Place(ctx, r.Pacer, diskio.PlaceSpec{
		Dst: diskio.FileContent(f), Src: c, SrcOff: w.off, Len: w.length, Clean: true, Hash: h,
	})
	r.Report.Method, r.Report.Bytes = diskio.MethodCopy, did.Bytes
	if err = w.kept.ended(err); err != nil {
		return err
	}
	return w.sum.judgeMoved(r, did, h)
}
