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

// Overwrite makes the task of an operation that writes what a guest sees of a volume over
// the content of another.
func Overwrite(o *operation.Upload) (helper.Task, error) {
	at, err := volume(o, "target", o.Volume)
	if err != nil {
		return helper.Task{}, err
	}
	if err := needed(o, "layer", len(o.Layers) > 0); err != nil {
		return helper.Task{}, err
	}
	chain, err := chainOf(o, o.Chain)
	if err != nil {
		return helper.Task{}, err
	}
	source := chain[0]
	w := overwrite{
		from: view{at: source.Volume, format: imageIn(record.AsRaw, source.Format), chain: chain[1:], secret: source.Secret},
		to:   &helper.Volume{Location: at, Access: backends.WriteExclusive},
	}
	return helper.Task{
		Name:    o.Task().Name,
		Doing:   fmt.Sprintf("write %q over %q", source.Path, at.Path),
		Done:    fmt.Sprintf("wrote %q over %q", source.Path, at.Path),
		Undone:  fmt.Sprintf("what is written of %q already stays so", at.Path),
		Ask:     fmt.Sprintf("the content of %q (%s) will be overwritten", at.Path, length(at.Path)),
		Reads:   source.Path,
		Writes:  at.Path,
		ByHand:  spares(at),
		Short:   "the volume is not complete until all of it is written again",
		Secrets: o.Files,
		Opens:   append(w.from.opens(), w.to),
		Images:  w.from.images(1),
		Work:    w.work,
	}, nil
}

type overwrite struct {
	from view
	to   *helper.Volume
}

func (w overwrite) work(ctx context.Context, r *helper.Run) error {
	kept, err := w.from.watch(ctx, r)
	if err != nil {
		return err
	}
	return w.from.with(ctx, r, false, func(source diskio.Content) error { return w.copy(ctx, r, source, kept) })
}

// copy writes all of the volume: behind the end of the content it has zeros.
func (w overwrite) copy(ctx context.Context, r *helper.Run, source diskio.Content, kept watches) error {
	size, err := source.Size()
	if err != nil {
		return err
	}
	to := w.to.Volume.Content()
	room, err := to.Size()
	if err != nil {
		return err
	}
	if size > room {
		return ipc.Errorf(record.TooLarge, "%q has room for %s, and what %q holds has %s", w.to.Path, quantity.FormatBoth(room), w.from.at.Path, quantity.FormatBoth(size))
	}
	r.Plan(helper.Moving("copy", size))
	r.Next(0)
	r.Report.Rollback = string(record.RollbackKept) // unless it comes to its end
	did, err := diskio.Copy(ctx, r.Pacer, diskio.CopySpec{Dst: to, Src: source, Size: room, Reflink: diskio.ReflinkNever})
	if err := kept.ended(err); err != nil {
		return err
	}
	copied(r, did)
	r.Report.Bytes, r.Report.Rollback = room, string(record.RollbackNone)
	return r.Describe(w.to.Volume)
}
