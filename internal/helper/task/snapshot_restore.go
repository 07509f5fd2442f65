package task

import (
	"context"
	"fmt"

	"storaged/internal/backends"
	"storaged/internal/diskio"
	"storaged/internal/helper"
	"storaged/internal/ipc"
	"storaged/internal/operation"
)

// SnapshotRestore makes the task of an operation.
func SnapshotRestore(o *operation.SnapshotRestore) (helper.Task, error) {
	at, from, err := snapshotOf(o, o.OnSnapshot)
	if err != nil {
		return helper.Task{}, err
	}
	old := &helper.Volume{Location: at, Leaves: true}
	snapshot := &helper.Volume{Location: from}
	w := reverting{
		old: old, snapshot: snapshot, format: o.Format, secret: o.Secret, iter: o.IterTime, forbidden: o.Forbidden,
		draft: &helper.Draft{Location: at, Like: snapshot, As: backends.NewVolume{Format: o.Format}, Over: old},
	}
	return helper.Task{
		Name: o.Task().Name, Images: overlayImages(o.Format), Secrets: o.Files,
		Doing:  fmt.Sprintf("restore %q from snapshot %q", at.Path, o.Snapshot),
		Done:   fmt.Sprintf("restored %q from snapshot %q", at.Path, o.Snapshot),
		Undone: fmt.Sprintf("%q is as it was", at.Path),
		Ask:    fmt.Sprintf("what %q (%s) has now will be replaced by its snapshot %q", at.Path, length(at.Path), o.Snapshot),
		Makes:  at.Path,
		Reads:  from.Path,
		Writes: at.Path,
		ByHand: spares(at),
		Opens:  []helper.Opening{w.old, w.snapshot, helper.Begun{Draft: w.draft}},
		Work:   w.work,
	}, nil
}

// reverting makes a volume what it was when a snapshot of it was made.
type reverting struct {
	old, snapshot *helper.Volume
	format        string
	secret        string        // name of the one that opens both
	iter          int64         // ms that a try of it takes in an image on the snapshot
	draft         *helper.Draft // that replaces the volume
	forbidden     string        // why no image can stand on the snapshot, "" if one can
}

func (w reverting) work(ctx context.Context, r *helper.Run) error {
	is, err := described(w.snapshot.Volume, w.format)
	if err != nil {
		return err
	}
	size := is.Size
	w.draft.As.Size = size
	attributes, err := diskio.AttributesOf(w.old.Volume.Content())
	if err != nil {
		return err
	}
	if byDriver(w.draft.Pool) {
		if err := w.draft.ShareStorage(ctx, r); err != nil {
			return fmt.Errorf("cannot restore %q: %w", w.old.Path, err)
		}
	}
	r.Plan(helper.Moving("share", size), helper.Commit())
	r.Next(0)
	return r.Create(ctx, w.draft, func() error { return w.fill(ctx, r, is, attributes) })
}

// fill makes of the draft what the snapshot is: by its blocks, or, where those cannot be
// shared, by an image that stands on it.
func (w reverting) fill(ctx context.Context, r *helper.Run, is ipc.Item, attributes diskio.Attributes) error {
	to := w.draft.Draft.Content()
	var err error
	if w.draft.As.Origin != "" {
		err = snapped(ctx, r, is.Size)
	} else {
		err = share(ctx, r, to, w.snapshot.Volume.Content())
	}
	switch {
	case unshared(err) && w.format == layered:
		on := layer{Volume: w.snapshot.Volume, path: w.snapshot.Path, like: is, secret: w.secret, iter: w.iter}
		if err := allowed(w.forbidden, "restore", w.old.Path); err != nil {
			return err
		}
		if err := on.admits(ctx, r, w.draft.Pool); err != nil {
			return err
		}
		if err := diskio.FileOf(to).Truncate(0); err != nil { // what was shared of it
			return err
		}
		return on.stack(ctx, r, w.draft, attributes)
	case err == nil:
		r.Knows(func(it *ipc.Item) { like(it, is) })
		give(r, to, attributes.OfCopy(), w.draft.Path)
	}
	return err
}
