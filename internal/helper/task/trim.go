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

// Trim makes the task of an operation.
func Trim(o *operation.Trim) (helper.Task, error) {
	at, err := volume(o, "target", o.Volume)
	if err != nil {
		return helper.Task{}, err
	}
	w := trim{at: &helper.Volume{Location: at, Access: backends.WriteExclusive}, giveUp: o.GiveUpAllocation, since: o.SummedNS}
	if o.Recorded != "" {
		if _, w.sum, err = record.ParseContentChecksum(o.Recorded); err != nil {
			return helper.Task{}, record.Errorf(record.Invalid, "--checksum: %v", err)
		}
	}
	return helper.Task{
		Name: o.Task().Name, Resumes: o.Resume,
		Doing:  fmt.Sprintf("trim %q", at.Path),
		Done:   fmt.Sprintf("trimmed %q", at.Path),
		Idle:   "nothing to give back",
		Undone: fmt.Sprintf("what is given back of %q already stays so; its content is the same", at.Path),
		Reads:  at.Path,
		Writes: at.Path,
		Opens:  []helper.Opening{w.at},
		Work:   w.work,
	}, nil
}

type trim struct {
	at     *helper.Volume
	giveUp bool
	sum    string // checksum that the content is known to have, "" for none
	since  int64  // when the volume was last changed if it is to count, ns since 1970
}

func (w trim) work(ctx context.Context, r *helper.Run) error {
	v := w.at.Volume
	info, err := v.Info()
	if err != nil {
		return err
	}
	if w.sum != "" && (w.since == 0 || info.Change.UnixNano() == w.since) {
		r.Knows(func(v *ipc.Item) { v.Checksum = w.sum })
	}
	if err := w.free(ctx, v, info); err != nil {
		return err
	}
	r.Plan(helper.Moving("trim", info.Size))
	r.Next(0)
	return w.trim(ctx, r, v, info.Allocation)
}

// free refuses a volume that somebody has reserved space for.
func (w trim) free(ctx context.Context, v backends.Volume, info backends.VolumeInfo) error {
	if w.giveUp {
		return nil
	}
	n, err := diskio.Preallocated(ctx, v.Content())
	if err != nil || n == 0 {
		return err
	}
	return ipc.Errorf(record.WrongState, "cannot trim %q: %s of its %s are reserved, nothing was written to them yet; nothing was given back", w.at.Path, quantity.FormatBytes(n), quantity.FormatBytes(info.Allocation)).
		WithHint("--give-up-allocation gives them back too")
}

// trim begins where an earlier helper was interrupted, if nobody else has
// written to the volume since.
func (w trim) trim(ctx context.Context, r *helper.Run, v backends.Volume, before int64) error {
	if e := r.Earlier; e != nil {
		if why := e.Fits(v.Content()); why != "" {
			r.Anew("%q: %s", w.at.Path, why)
		}
	}
	first := before // of all helpers of the job
	if r.Earlier != nil {
		first = max(first, r.Earlier.At.Allocation)
	}
	did, err := diskio.Trim(ctx, r.Pacer, v.Content(), r.Checkpoints(helper.Position{Allocation: first}, v.Content(), ""))
	r.Report.Method, r.Report.Bytes = did.Method, did.Bytes+first-before
	if did.Method == diskio.MethodNone && first > before {
		r.Report.Method = diskio.MethodPunch // by an earlier one
	}
	return err
}
