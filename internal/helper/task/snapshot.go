package task

import (
	"context"
	"errors"
	"strconv"

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

// overlayImages is how many children make an overlay in a format, where a snapshot needs one.
func overlayImages(format string) int {
	if format == layered {
		return 1
	}
	return 0
}

// layered is the format of volumes that have snapshots where blocks cannot be shared:
// the snapshot is what the volume was, and the volume an overlay on that.
const layered = "qcow2"

// methodOverlay is how such snapshots are made, and what stands on another volume.
const methodOverlay = "overlay"

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

// layer is an image on which an empty one is to stand.
type layer struct {
	backends.Volume
	path   string
	like   ipc.Item // the image on it has that capacity
	secret string   // name of the one that opens it, and what stands on it
	iter   int64    // ms that a try of the latter's takes; 0: as QEMU has it
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

// options are those of an image that stands on it.
func (l layer) options() map[string]string {
	if l.secret == "" || l.iter == 0 {
		return nil
	}
	return map[string]string{"iter_time": strconv.FormatInt(l.iter, 10)}
}

// admits refuses it before anything is made that is to stand on it.
func (l layer) admits(ctx context.Context, r *helper.Run, p *helper.Pool) error {
	if err := l.sound(r); err != nil {
		return err
	}
	return roomIn(ctx, p, operation.RoomForOverlay(l.like.Capacity, l.secret != ""))
}

// stack makes of a draft an empty image that stands on another one, in place of a volume
// with those attributes.
func (l layer) stack(ctx context.Context, r *helper.Run, d *helper.Draft, attributes diskio.Attributes) error {
	r.Report.Method = methodOverlay
	r.Knows(func(it *ipc.Item) {
		if is, err := described(d.Draft, layered); err == nil {
			like(it, is)
		}
	})
	err := r.MakeDisk(ctx, d.Draft, helper.Blank{
		Format: layered, Capacity: l.like.Capacity, BackingName: l.path, BackingFormat: layered, Secret: l.secret, Options: l.options(),
	})
	if err == nil {
		give(r, d.Draft.Content(), attributes.OfCopy(), d.Path)
	}
	return err
}

// share makes a file of the blocks of another.
func share(ctx context.Context, r *helper.Run, to, from diskio.Content) error {
	did, err := diskio.Copy(ctx, r.Pacer, diskio.CopySpec{Dst: to, Src: from, Reflink: diskio.ReflinkAlways, Clean: true})
	copied(r, did)
	return err
}

// methodSnapshot is how a driver makes a volume that shares the storage of another.
const methodSnapshot = "snapshot"

// snapped reports that a draft has the content of another volume, of so many bytes.
func snapped(ctx context.Context, r *helper.Run, size int64) error {
	r.Report.Method, r.Report.Bytes = methodSnapshot, size
	return diskio.Shared(ctx, r.Pacer, size)
}

// byDriver reports whether volumes of a pool share their storage by its driver.
func byDriver(p *helper.Pool) bool {
	_, able := p.Backend.(backends.Cloner)
	return able
}

// like gives an item what another's header says.
func like(it *ipc.Item, other ipc.Item) {
	it.Format, it.Capacity, it.Backing, it.References, it.Problem = other.Format, other.Capacity, other.Backing, other.References, other.Problem
	it.Twofold, it.Cut, it.As, it.Options, it.Internal = other.Twofold, other.Cut, other.As, other.Options, other.Internal
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

// roomIn refuses, before anything is written, what a pool has no room for.
func roomIn(ctx context.Context, p *helper.Pool, need int64) error {
	has, err := p.Space(ctx)
	if err == nil && need > has.Available {
		err = &diskio.NoRoomError{Needed: need, Available: has.Available}
	}
	return err
}

// roomBySnapshots is what can be done where there is no room.
const roomBySnapshots = "make room where the pool lies; to delete a volume with all its snapshots needs none"
