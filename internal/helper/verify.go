package helper

import (
	"context"
	"fmt"

	"storaged/internal/backends"
	"storaged/internal/diskio"
	"storaged/internal/ipc"
	"storaged/internal/operation"
	"storaged/internal/record"
)

// Verify makes the task of an operation.
func Verify(o *operation.Verify) (Task, error) {
	at, err := volume(o, "target", o.Volume)
	if err != nil {
		return Task{}, err
	}
	w := verification{at: at, sum: checksum{algorithm: record.SHA256}, since: o.SummedNS}
	if o.Checksum != "" {
		if w.sum, err = checksumOf(o.Checksum); err != nil {
			return Task{}, err
		}
	}
	return Task{
		name: o.Task().Name, resumes: o.Resume,
		doing:  fmt.Sprintf("verify %q", at.path),
		done:   fmt.Sprintf("read %q", at.path),
		undone: "nothing was changed",
		reads:  at.path,
		work:   w.work,
	}, nil
}

type verification struct {
	at    place
	sum   checksum
	since int64 // when the volume was last changed if the sum's want is to count, ns since 1970; 0: it counts
}

func (w verification) work(ctx context.Context, r *run) error {
	v, err := r.open(ctx, w.at, backends.ReadShared)
	if err != nil {
		return err
	}
	defer v.Close()
	size, err := sizeOf(v)
	if err != nil {
		return err
	}
	held, err := r.held(v.File())
	if err != nil {
		return err
	}
	r.plan(growing(moving("read", size)))
	r.next(0)
	var sum diskio.SumStats
	err = r.share(ctx, v, func(ctx context.Context) error {
		sum, err = diskio.Sum(ctx, r.pacer, v.File(), r.sums(position{Source: held, Algorithm: w.sum.algorithm}))
		return err
	})
	if err != nil {
		return err
	}
	r.report.Checksum, r.report.Bytes = record.ContentChecksum(w.sum.algorithm, sum.Sum), sum.Bytes
	if err := r.describe(v); err != nil {
		return err
	}
	return w.judge(r, v, held)
}

// judge compares the checksum with what it should be. It is that of the volume
// as it is now only if nobody has changed that meanwhile.
func (w verification) judge(r *run, v backends.Volume, held *footprint) error {
	now, err := footprintOf(v.File())
	if err != nil {
		return err
	}
	got, why := r.report.Checksum, held.unchanged(now)
	if why == "" {
		r.report.Volume.Checksum = got
	}
	if w.since != 0 && (why != "" || now.ChangedNS != w.since) {
		r.warn("the recorded checksum is out of date: %q was changed since, and not by storaged", w.at.path)
		return nil
	}
	r.report.Checked, r.report.Verified = w.sum.want != "", w.sum.want == got
	if r.report.Checked && !r.report.Verified {
		return w.differs(got)
	}
	return nil
}

func (w verification) differs(got string) error {
	if w.since == 0 {
		return failed(record.Mismatch, "%q has checksum %s, not %s", w.at.path, got, w.sum.want)
	}
	return &ipc.Error{
		Code:    string(record.Mismatch),
		Message: fmt.Sprintf("%q has checksum %s, not %s as was recorded, and nobody has written to it since", w.at.path, got, w.sum.want),
		Hint:    "the storage may have damaged it; --checksum " + w.sum.algorithm + " takes what it has now and records that",
		Offset:  -1,
	}
}
