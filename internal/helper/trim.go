package helper

import (
	"context"
	"fmt"

	"storaged/internal/backends"
	"storaged/internal/diskio"
	"storaged/internal/ipc"
	"storaged/internal/operation"
	"storaged/internal/quantity"
	"storaged/internal/record"
)

// Trim makes the task of an operation.
func Trim(o *operation.Trim) (Task, error) {
	at, err := volume(o, "target", o.Volume)
	if err != nil {
		return Task{}, err
	}
	w := trim{at: at, giveUp: o.GiveUpAllocation, since: o.SummedNS}
	if o.Recorded != "" {
		if _, w.sum, err = record.ParseContentChecksum(o.Recorded); err != nil {
			return Task{}, record.Errorf(record.Invalid, "--checksum: %v", err)
		}
	}
	return Task{
		name: o.Task().Name, resumes: o.Resume,
		doing:   fmt.Sprintf("trim %q", at.path),
		done:    fmt.Sprintf("trimmed %q", at.path),
		undone:  fmt.Sprintf("what is given back of %q already stays so; its content is the same", at.path),
		reads:   at.path,
		writes:  at.path,
		changes: []pool{at.in()},
		work:    w.work,
	}, nil
}

type trim struct {
	at     place
	giveUp bool
	sum    string // checksum that the content is known to have, "" for none
	since  int64  // when the volume was last changed if it is to count, ns since 1970
}

func (w trim) work(ctx context.Context, r *run) error {
	same := false
	err := r.inPlace(ctx, w.at, func(v backends.Volume) error {
		info, err := v.Info()
		if err != nil {
			return err
		}
		same = w.sum != "" && (w.since == 0 || info.Change.UnixNano() == w.since)
		if err := w.free(ctx, v, info); err != nil {
			return err
		}
		size, err := sizeOf(v)
		if err != nil {
			return err
		}
		r.plan(moving("trim", size))
		r.next(0)
		return w.trim(ctx, r, v, info.Allocation)
	})
	if same && r.report.Volume != nil {
		r.report.Volume.Checksum = w.sum
	}
	return err
}

// free refuses a volume that somebody has reserved space for.
func (w trim) free(ctx context.Context, v backends.Volume, info backends.VolumeInfo) error {
	if w.giveUp {
		return nil
	}
	n, err := diskio.Preallocated(ctx, v.File())
	if err != nil || n == 0 {
		return err
	}
	return &ipc.Error{
		Code: string(record.WrongState), Offset: -1,
		Message: fmt.Sprintf("cannot trim %q: %s of its %s are reserved, nothing was written to them yet; nothing was given back",
			w.at.path, quantity.FormatBytes(n), quantity.FormatBytes(info.Allocation)),
		Hint: "--give-up-allocation gives them back too",
	}
}

// trim begins where an earlier helper was interrupted, if nobody else has
// written to the volume since.
func (w trim) trim(ctx context.Context, r *run, v backends.Volume, before int64) error {
	if e := r.earlier; e != nil {
		if why := e.fits(v.File()); why != "" {
			r.anew("%q: %s", w.at.path, why)
		}
	}
	first := before // of all helpers of the job
	if r.earlier != nil {
		first = max(first, r.earlier.at.Allocation)
	}
	did, err := diskio.Trim(ctx, r.pacer, v.File(), r.checkpoints(position{Allocation: first}, v.File(), ""))
	r.report.Method, r.report.Bytes = did.Method, did.Bytes+first-before
	if did.Method == diskio.MethodNone && first > before {
		r.report.Method = diskio.MethodPunch // by an earlier one
	}
	return err
}
