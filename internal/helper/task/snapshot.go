package task

import (
	"context"
	"errors"
	"fmt"

	"storaged/internal/backends"
	"storaged/internal/backends/header"
	"storaged/internal/diskio"
	"storaged/internal/format"
	"storaged/internal/helper"
	"storaged/internal/ipc"
	"storaged/internal/operation"
	"storaged/internal/record"
)

// snapshotOf finds the volume of --target and its snapshot of --name.
func snapshotOf(o Tasked, on operation.OnSnapshot) (at, snapshot helper.Location, err error) {
	if at, err = volume(o, "target", on.Volume); err != nil {
		return at, snapshot, err
	}
	if err := needed(o, "name", on.Snapshot != ""); err != nil {
		return at, snapshot, err
	}
	if err := record.CheckSnapshot(at.Name, on.Snapshot); err != nil {
		return at, snapshot, record.Errorf(record.Invalid, "%s", err)
	}
	snapshot = at.Pool.At(record.SnapshotFile(at.Name, on.Snapshot))
	snapshot.ID, err = identity(at.Pool.Backend, on.SnapshotID)
	return at, snapshot, err
}

// SnapshotCreate makes the task of an operation.
func SnapshotCreate(o *operation.SnapshotCreate) (helper.Task, error) {
	at, to, err := snapshotOf(o, o.OnSnapshot)
	if err != nil {
		return helper.Task{}, err
	}
	w := preserving{
		volume: &helper.Volume{Location: at, Leaves: true}, format: o.Format, secret: o.Secret, forbidden: o.Forbidden,
		draft: &helper.Draft{Location: to, As: backends.NewVolume{Format: o.Format}},
	}
	return helper.Task{
		Name: o.Task().Name, Images: images(o.Format), Secrets: o.Files,
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
	draft  *helper.Draft // of the snapshot

	forbidden string // why no image can stand on the volume, "" if one can
}

// images is how many children make an overlay in a format, where a snapshot needs one.
func images(format string) int {
	if format == layered {
		return 1
	}
	return 0
}

// layered is the format of volumes that have snapshots where blocks cannot be shared:
// the snapshot is what the volume was, and the volume an overlay on that.
const layered = "qcow2"

// methodOverlay is how such snapshots are made.
const methodOverlay = "overlay"

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
	err = r.Create(ctx, w.draft, func() error { return share(ctx, r, w.draft.Draft.Content(), v.Content()) })
	if unshared(err) && w.format == layered {
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

// unshared reports whether the file system cannot share blocks.
func unshared(err error) bool {
	sharing, ok := errors.AsType[*diskio.IOError](err)
	return ok && sharing.CannotShare()
}

// allowed refuses to make an image that stands on what no image can.
func allowed(forbidden, what, path string) error {
	if forbidden == "" {
		return nil
	}
	return ipc.Errorf(record.Unsupported, "cannot %s %q: its file system cannot share blocks between files, and no image can stand on it: %s; nothing was changed", what, path, forbidden).
		WithHint("xfs and btrfs share blocks (reflinks)")
}

// overlay gives the volume's file the snapshot's name, and the volume's name to an
// empty image that stands on that.
func (w preserving) overlay(ctx context.Context, r *helper.Run) error {
	is, err := described(w.volume.Volume, w.format)
	if err != nil {
		return err
	}
	d := &helper.Draft{Location: w.volume.Location, As: backends.NewVolume{Format: w.format, Size: w.draft.As.Size}, Over: w.volume, Kept: w.draft.Name}
	if err := stack(ctx, r, d, layer{Volume: w.volume.Volume, path: w.draft.Path, like: is, secret: w.secret}); err != nil {
		return err
	}
	is.Name, is.Path, is.Key = w.draft.Name, w.draft.Path, w.draft.Path
	r.Report.Snapshot = &is
	return nil
}

// layer is an image on which an empty one is to stand.
type layer struct {
	backends.Volume
	path   string
	like   ipc.Item // the image on it has that capacity
	secret string   // name of the one that opens it, and what stands on it
}

// sound refuses an image that must not be opened by its header as it is now, and one
// that is encrypted and comes without its secret: what is written to one that stands
// on it would not be encrypted.
func (l layer) sound(r *helper.Run) error {
	is, err := format.InspectAs(l.Content(), l.like.Size, layered)
	if err == nil && is.Problem != "" {
		err = ipc.Errorf(record.Unsupported, "%q cannot be opened as an image in format %s, and no image can stand on it: %s; nothing was changed", l.like.Path, layered, is.Problem)
	}
	if err != nil || is.Encryption == "" {
		return err
	}
	secret, err := r.Secret(l.secret)
	if err == nil && secret == nil {
		err = ipc.Errorf(record.Invalid, "%q is encrypted, and its secret is not known: an image that stands on it would not be encrypted; nothing was changed", l.like.Path)
	}
	clear(secret)
	return err
}

// stack makes an empty image that stands on another one, in place of a volume.
func stack(ctx context.Context, r *helper.Run, d *helper.Draft, on layer) error {
	if err := on.sound(r); err != nil {
		return err
	}
	attributes, err := diskio.AttributesOf(d.Over.Volume.Content())
	if err != nil {
		return err
	}
	r.Report.Rollback, r.Report.Method = string(record.RollbackNone), methodOverlay
	r.Knows(func(it *ipc.Item) {
		if is, err := described(d.Draft, layered); err == nil {
			like(it, is)
		}
	})
	return r.Create(ctx, d, func() error {
		err := r.MakeDisk(ctx, d.Draft, helper.Blank{
			Format: layered, Capacity: on.like.Capacity, BackingName: on.path, BackingFormat: layered, Secret: on.secret,
		})
		if err == nil {
			give(r, d.Draft.Content(), attributes.OfCopy(), d.Path)
		}
		return err
	})
}

// share makes a file of the blocks of another.
func share(ctx context.Context, r *helper.Run, to, from diskio.Content) error {
	did, err := diskio.Copy(ctx, r.Pacer, diskio.CopySpec{Dst: to, Src: from, Reflink: diskio.ReflinkAlways, Clean: true})
	copied(r, did)
	return err
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

// like gives an item what another's header says.
func like(it *ipc.Item, other ipc.Item) {
	it.Format, it.Capacity, it.Backing, it.References, it.Problem = other.Format, other.Capacity, other.Backing, other.References, other.Problem
	it.Twofold, it.As = other.Twofold, other.As
}

// described is an open volume in a format, with what its header says.
func described(v backends.Volume, format string) (ipc.Item, error) {
	if record.Plain(format) {
		info, err := v.Info()
		return helper.Item(info), err
	}
	info, err := header.Inspect(v, format)
	return helper.Item(info), err
}

// SnapshotRestore makes the task of an operation.
func SnapshotRestore(o *operation.SnapshotRestore) (helper.Task, error) {
	at, from, err := snapshotOf(o, o.OnSnapshot)
	if err != nil {
		return helper.Task{}, err
	}
	old := &helper.Volume{Location: at, Leaves: true}
	w := reverting{
		old: old, snapshot: &helper.Volume{Location: from}, format: o.Format, secret: o.Secret, forbidden: o.Forbidden,
		draft: &helper.Draft{Location: at, As: backends.NewVolume{Format: o.Format}, Over: old},
	}
	return helper.Task{
		Name: o.Task().Name, Images: images(o.Format), Secrets: o.Files,
		Doing:  fmt.Sprintf("restore %q from snapshot %q", at.Path, o.Snapshot),
		Done:   fmt.Sprintf("restored %q from snapshot %q", at.Path, o.Snapshot),
		Undone: fmt.Sprintf("%q is as it was", at.Path),
		Ask:    fmt.Sprintf("what %q (%s) has now will be replaced by its snapshot %q", at.Path, length(at.Path), o.Snapshot),
		Makes:  at.Path,
		Reads:  from.Path,
		Writes: at.Path,
		ByHand: spares(at),
		Opens:  []helper.Opening{w.old, w.snapshot, w.draft},
		Work:   w.work,
	}, nil
}

// reverting makes a volume what it was when a snapshot of it was made.
type reverting struct {
	old, snapshot *helper.Volume
	format        string
	secret        string        // name of the one that opens both
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
	r.Plan(helper.Moving("share", size), helper.Commit())
	r.Next(0)
	err = r.Create(ctx, w.draft, func() error {
		err := share(ctx, r, w.draft.Draft.Content(), w.snapshot.Volume.Content())
		if err == nil {
			give(r, w.draft.Draft.Content(), attributes.OfCopy(), w.draft.Path)
		}
		return err
	})
	switch {
	case unshared(err) && w.format == layered:
		if err := allowed(w.forbidden, "restore", w.old.Path); err != nil {
			return err
		}
		return stack(ctx, r, w.draft, layer{Volume: w.snapshot.Volume, path: w.snapshot.Path, like: is, secret: w.secret})
	case err == nil:
		like(r.Report.Volume, is)
	}
	return err
}

// SnapshotDelete makes the task of an operation.
func SnapshotDelete(o *operation.SnapshotDelete) (helper.Task, error) {
	at, snapshot, err := snapshotOf(o, o.OnSnapshot)
	if err != nil {
		return helper.Task{}, err
	}
	w := deletion{at: &helper.Volume{Location: snapshot, Leaves: true}}
	return helper.Task{
		Name:   o.Task().Name,
		Doing:  fmt.Sprintf("delete snapshot %q of %q", o.Snapshot, at.Path),
		Done:   fmt.Sprintf("deleted snapshot %q of %q", o.Snapshot, at.Path),
		Undone: fmt.Sprintf("%q is not deleted", snapshot.Path),
		Ask:    fmt.Sprintf("snapshot %q of %q will be deleted", o.Snapshot, at.Path),
		Writes: snapshot.Path,
		ByHand: spares(snapshot),
		Opens:  []helper.Opening{w.at},
		Work:   w.work,
	}, nil
}
