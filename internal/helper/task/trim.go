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

// Trim makes the task of an operation.
func Trim(o *operation.Trim) (helper.Task, error) {
	at, err := volume(o, "target", o.Volume)
	if err != nil {
		return helper.Task{}, err
	}
	w := trim{giveUp: o.GiveUpAllocation}
	if w.known, err = recordedOf(o.Summed); err != nil {
		return helper.Task{}, err
	}
	format := imageIn(record.AsRaw, o.Format)
	if !record.FormatCan(format, record.VerbTrim) {
		format = "" // its file can be trimmed all the same
	}
	if w.view, err = viewOf(o, &helper.Volume{Location: at, Access: backends.WriteExclusive}, format, o.Image); err != nil {
		return helper.Task{}, err
	}
	w.at.Admits = w.admits
	return helper.Task{
		Name: o.Task().Name, Resumes: o.Resume,
		Doing:   fmt.Sprintf("trim %q", at.Path),
		Done:    fmt.Sprintf("trimmed %q", at.Path),
		Idle:    "nothing to give back",
		Undone:  fmt.Sprintf("what is given back of %q already stays so; its content is the same", at.Path),
		Reads:   at.Path,
		Writes:  at.Path,
		Secrets: o.Files,
		Opens:   w.opens(),
		Images:  w.images(1),
		Work:    w.work,
	}, nil
}

type trim struct {
	view
	giveUp bool
	known  recorded
}

func (w trim) work(ctx context.Context, r *helper.Run) error {
	v := w.at.Volume
	info, err := v.Info()
	if err != nil {
		return err
	}
	w.known.giveBack(r, info)
	if err := w.free(ctx, v, info); err != nil {
		return err
	}
	if w.isImage() {
		return w.trimImage(ctx, r, info.Allocation)
	}
	r.Plan(helper.Moving("trim", info.Size))
	r.Next(0)
	return w.trim(ctx, r, v, info.Allocation)
}

// trimImage lets the image give up what of its content is zeros, and gives back
// what its file has of zeros then. Begun again, it finds holes where it was.
func (w trim) trimImage(ctx context.Context, r *helper.Run, before int64) error {
	v := w.at.Volume
	err := w.with(ctx, r, true, func(c diskio.Content) error {
		size, err := c.Size()
		if err != nil {
			return err
		}
		if len(w.chain) > 0 {
			c = c.(interface{ Own() diskio.Content }).Own()
		}
		r.Plan(helper.Moving("trim", size), helper.Single("trim the file"))
		r.Next(0)
		_, err = diskio.Trim(ctx, r.Pacer, c, diskio.Checkpoints{})
		return err
	})
	if err == nil {
		r.Next(1)
		_, err = diskio.Trim(ctx, r.Pacer, v.Content(), diskio.Checkpoints{})
	}
	r.Report.Method = diskio.MethodNone
	now, serr := v.Info()
	if r.Report.Bytes = max(0, before-now.Allocation); r.Report.Bytes > 0 {
		r.Report.Method = diskio.MethodPunch
	}
	return cmp.Or(err, serr)
}

// admits refuses what free does.
func (w trim) admits(ctx context.Context, v backends.Volume) error {
	info, err := v.Info()
	if err != nil {
		return err
	}
	return w.free(ctx, v, info)
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
