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
	w := verification{at: &helper.Volume{Location: at}, sum: checksum{algorithm: record.SHA256}, since: o.SummedNS}
	if o.Checksum != "" {
		if w.sum, err = checksumOf(o.Checksum); err != nil {
			return helper.Task{}, err
		}
	}
	return helper.Task{
		Name: o.Task().Name, Resumes: o.Resume,
		Doing:  fmt.Sprintf("verify %q", at.Path),
		Done:   fmt.Sprintf("read %q", at.Path),
		Undone: "nothing was changed",
		Reads:  at.Path,
		Opens:  []helper.Opening{w.at},
		Work:   w.work,
	}, nil
}

type verification struct {
	at    *helper.Volume
	sum   checksum
	since int64 // when the volume was last changed if the sum's want is to count, ns since 1970; 0: it counts
}

func (w verification) work(ctx context.Context, r *helper.Run) error {
	v := w.at.Volume
	size, err := sizeOf(v)
	if err != nil {
		return err
	}
	held, err := r.Held(v.Content())
	if err != nil {
		return err
	}
	r.Plan(growing(helper.Moving("read", size)))
	r.Next(0)
	var sum diskio.SumStats
	err = shareGrowth(ctx, r, v, func(ctx context.Context) error {
		sum, err = diskio.Sum(ctx, r.Pacer, v.Content(), r.Sums(helper.Position{Source: held, Algorithm: w.sum.algorithm}))
		return err
	})
	if err != nil {
		return err
	}
	r.Report.Checksum, r.Report.Bytes = record.ContentChecksum(w.sum.algorithm, sum.Sum), sum.Bytes
	if err := r.Describe(v); err != nil {
		return err
	}
	return w.judge(r, v, held)
}

// judge compares the checksum with what it should be. It is that of the volume
// as it is now only if nobody has changed that meanwhile.
func (w verification) judge(r *helper.Run, v backends.Volume, held *helper.Footprint) error {
	now, err := helper.FootprintOf(v.Content())
	if err != nil {
		return err
	}
	got, why := r.Report.Checksum, held.Unchanged(now)
	if why == "" {
		r.Report.Volume.Checksum = got
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
