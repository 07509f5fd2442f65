package task

import (
	"context"
	"fmt"

	"storaged/internal/backends"
	"storaged/internal/diskio"
	"storaged/internal/helper"
	"storaged/internal/ipc"
	"storaged/internal/operation"
	"storaged/internal/record"
)

// Verify makes the task of an operation.
func Verify(o *operation.Verify) (helper.Task, error) {
	at, err := volume(o, "target", o.Volume)
	if err != nil {
		return helper.Task{}, err
	}
	w := verification{sum: checksum{algorithm: record.SHA256}, since: o.SummedNS}
	if w.view, err = viewOf(o, &helper.Volume{Location: at}, imageIn(o.As, o.Format), o.Image); err != nil {
		return helper.Task{}, err
	}
	if o.Checksum != "" {
		if w.sum, err = checksumOf(o.Checksum); err != nil {
			return helper.Task{}, err
		}
	}
	return helper.Task{
		Name: o.Task().Name, Resumes: o.Resume,
		Doing:   fmt.Sprintf("verify %q", at.Path),
		Done:    fmt.Sprintf("read %q", at.Path),
		Undone:  "nothing was changed",
		Reads:   at.Path,
		Secrets: o.Files,
		Opens:   w.opens(),
		Images:  w.images(1),
		Work:    (&w).work,
	}, nil
}

type verification struct {
	view
	sum   checksum
	begun helper.Position // when it began
	since int64           // when the volume was last changed if the sum's want is to count, ns since 1970; 0: it counts
}

func (w *verification) work(ctx context.Context, r *helper.Run) error {
	err := w.with(ctx, r, false, func(c diskio.Content) error { return w.read(ctx, r, c) })
	if err != nil {
		return err
	}
	v := w.at.Volume
	if err := r.Describe(v); err != nil {
		return err
	}
	return w.judge(r, v)
}

// read takes the checksum.
func (w *verification) read(ctx context.Context, r *helper.Run, c diskio.Content) error {
	size, err := c.Size()
	if err == nil {
		w.begun, err = w.origin(r)
	}
	if err != nil {
		return err
	}
	w.begun.Algorithm = w.sum.algorithm
	phase := helper.Moving("read", size)
	if !w.isImage() {
		phase = growing(phase)
	}
	r.Plan(phase)
	r.Next(0)
	var sum diskio.SumStats
	err = w.undisturbed(ctx, r, func(ctx context.Context) error {
		sum, err = diskio.Sum(ctx, r.Pacer, c, r.Sums(w.begun))
		return err
	})
	if err == nil {
		r.Report.Checksum, r.Report.Bytes = record.ContentChecksum(w.sum.algorithm, sum.Sum), sum.Bytes
	}
	return err
}

// undisturbed reads what nobody changes meanwhile. A volume may grow, but for an
// image.
func (w *verification) undisturbed(ctx context.Context, r *helper.Run, read func(context.Context) error) error {
	if !w.isImage() {
		return shareGrowth(ctx, r, w.at.Volume, read)
	}
	kept, err := w.watch(ctx, r)
	if err != nil {
		return err
	}
	return kept.ended(read(ctx))
}

// judge compares the checksum with what it should be. It is that of the volume
// as it is now only if nobody has changed that meanwhile.
func (w verification) judge(r *helper.Run, v backends.Volume) error {
	now, err := helper.FootprintOf(v.Content())
	if err != nil {
		return err
	}
	got, why := r.Report.Checksum, w.begun.Source.Unchanged(now)
	if why == "" && len(w.chain) == 0 { // else it is as much of what the volume stands on
		r.Report.Volume.Checksum, r.Report.Volume.ChecksumAs = got, w.sums()
	}
	if w.since != 0 && (why != "" || now.ChangedNS != w.since) {
		r.Warn("the recorded checksum is out of date: %q was changed since, and not by storaged", w.at.Path)
		return nil
	}
	r.Report.Checked, r.Report.Verified = w.sum.want != "", w.sum.want == got
	if r.Report.Checked && !r.Report.Verified {
		return w.differs(got)
	}
	return nil
}

func (w verification) differs(got string) error {
	if w.since == 0 {
		return ipc.Errorf(record.Mismatch, "%q has checksum %s, not %s", w.at.Path, got, w.sum.want)
	}
	return ipc.Errorf(record.Mismatch, "%q has checksum %s, not %s as was recorded, and nobody has written to it since", w.at.Path, got, w.sum.want).
		WithHint("the storage may have damaged it; --checksum %s takes what it has now and records that", w.sum.algorithm)
}
