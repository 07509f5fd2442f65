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

// SnapshotCreate makes the task of an operation.
func SnapshotCreate(o *operation.SnapshotCreate) (helper.Task, error) {
	at, to, err := snapshotOf(o, o.OnSnapshot)
	if err != nil {
		return helper.Task{}, err
	}
	of := &helper.Volume{Location: at, Leaves: true}
	w := preserving{
		volume: of, format: o.Format, secret: o.Secret, iter: o.IterTime, forbidden: o.Forbidden,
		draft: &helper.Draft{Location: to, Like: of, As: backends.NewVolume{Format: o.Format}},
	}
	return helper.Task{
		Name: o.Task().Name, Images: overlayImages(o.Format), Secrets: o.Files,
		Doing:  fmt.Sprintf("make snapshot %q of %q", o.Snapshot, at.Path),
		Done:   fmt.Sprintf("made snapshot %q of %q", o.Snapshot, at.Path),
		Undone: fmt.Sprintf("%q has no snapshot %q", at.Path, o.Snapshot),
		Makes:  to.Path,
		Reads:  at.Path,
		Writes: to.Path,
		Opens:  []helper.Opening{w.volume, w.draft},
		Work:   w.work,
	}, nil
}

// preserving makes a snapshot of a volume.
type preserving struct {
	volume *helper.Volume
	format string
	secret string        // name of the one that opens the volume
	iter   int64         // ms that a try of it takes in an image that stands on that
	draft  *helper.Draft // of the snapshot

	forbidden string // why no image can stand on the volume, "" if one can
}

func (w preserving) work(ctx context.Context, r *helper.Run) error {
	v := w.volume.Volume
	if err := (copying{from: w.volume.Path, to: w.draft.Path, format: w.format, both: true}).admit(v); err != nil {
		return err
	}
	size, err := sizeOf(v)
	if err != nil {
		return err
	}
	w.draft.As.Size = size
	r.Plan(helper.Moving("share", size), helper.Commit())
	r.Next(0)
	if byDriver(w.draft.Pool) {
		return w.snap(ctx, r, size)
	}
	w.draft.Else = w.overlays
	err = r.Create(ctx, w.draft, func() error { return share(ctx, r, w.draft.Draft.Content(), v.Content()) })
	if w.overlays(err) {
		if err := allowed(w.forbidden, "make a snapshot of", w.volume.Path); err != nil {
			return err
		}
		return w.overlay(ctx, r)
	}
	if unshared(err) {
		return ipc.Errorf(record.Unsupported, "cannot make a snapshot of %q: its file system cannot share blocks between files, and in format %s there is no other way", w.volume.Path, w.format).
			WithHint("xfs and btrfs share blocks (reflinks)")
	}
	if err != nil {
		return err
	}
	return frozen(r, v, w.format)
}

// snap has the driver make it.
func (w preserving) snap(ctx context.Context, r *helper.Run, size int64) error {
	if err := w.draft.ShareStorage(ctx, r); err != nil {
		return fmt.Errorf("cannot make a snapshot of %q: %w", w.volume.Path, err)
	}
	if err := r.Create(ctx, w.draft, func() error { return snapped(ctx, r, size) }); err != nil {
		return err
	}
	return frozen(r, w.volume.Volume, w.format)
}

// overlays reports whether the snapshot can be made by an image that stands on it, after
// its blocks could not be shared.
func (w preserving) overlays(err error) bool { return unshared(err) && w.format == layered }

// overlay gives the volume's file the snapshot's name, and the volume's name to an
// empty image that stands on that.
func (w preserving) overlay(ctx context.Context, r *helper.Run) error {
	is, err := described(w.volume.Volume, w.format)
	if err != nil {
		return err
	}
	d := &helper.Draft{Location: w.volume.Location, As: backends.NewVolume{Format: w.format, Size: w.draft.As.Size}, Over: w.volume, Aside: w.draft.Name}
	on := layer{Volume: w.volume.Volume, path: w.draft.Path, like: is, secret: w.secret, iter: w.iter}
	if err := on.admits(ctx, r, d.Pool); err != nil {
		return err
	}
	attributes, err := diskio.AttributesOf(w.volume.Volume.Content())
	if err != nil {
		return err
	}
	if err := r.Create(ctx, d, func() error { return on.stack(ctx, r, d, attributes) }); err != nil {
		return err
	}
	is.Name, is.Path, is.Key = w.draft.Name, w.draft.Path, w.draft.Path
	r.Report.Snapshot = &is
	return nil
}

// frozen reports the volume, and its snapshot, which was reported as what was made,
// and is what the volume is.
func frozen(r *helper.Run, v backends.Volume, format string) error {
	it, err := described(v, format)
	if err != nil {
		return err
	}
	made := *r.Report.Volume
	like(&made, it)
	r.Report.Snapshot, r.Report.Volume = &made, &it
	return nil
}
