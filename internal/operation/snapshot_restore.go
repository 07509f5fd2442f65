package operation

import (
	"slices"

	"storaged/internal/record"
)

// SnapshotRestore makes a volume what it was when a snapshot of it was made.
type SnapshotRestore struct {
	Terms
	OnSnapshot
	Sealed
	Overlay
	Secret string `json:"secret,omitempty"` // name of the one that opens both
	Format string `json:"format"`           // of the snapshot, and of the volume after
}

var _ interface {
	Operation
	Grows
	Overlaying
} = (*SnapshotRestore)(nil)

// NewSnapshotRestore gives one with the defaults of its task.
func NewSnapshotRestore() *SnapshotRestore {
	return &SnapshotRestore{OnSnapshot: newOnSnapshot(), Format: record.FormatRaw}
}

// Kind is snapshot.restore.
func (*SnapshotRestore) Kind() record.Kind { return record.SnapshotRestore }

// Class: nothing is copied.
func (*SnapshotRestore) Class() record.Class { return record.Normal }

// Locks the volume against everybody.
func (o *SnapshotRestore) Locks() []record.Object {
	return []record.Object{o.lock(record.ModeWrite), o.lockSnapshot(record.ModeRead)}
}

// Backing is what an overlay stands on.
func (o *SnapshotRestore) Backing() string { return record.SnapshotFile(o.Name, o.Snapshot) }

// Settle finds out which of both has the name.
func (o *SnapshotRestore) Settle() *Settle { return &Settle{Volume: o.Volume, Format: o.Format} }

// Keys: what stands on a volume that is encrypted is, too.
func (o *SnapshotRestore) Keys() []string { return []string{o.Secret} }

// Effect: the volume is another.
func (*SnapshotRestore) Effect() Effect { return Reverts }

// Warnings: its file is replaced.
func (*SnapshotRestore) Warnings(on record.Volume) []string { return losesInternal(on, replaced) }

// Destroys what the volume has now.
func (*SnapshotRestore) Destroys() bool { return true }

// Displaces it.
func (*SnapshotRestore) Displaces() bool { return true }

// Allowed refuses a snapshot that is not there.
func (o *SnapshotRestore) Allowed(k Known) error { return o.there(k) }

// Task is restore.
func (o *SnapshotRestore) Task() Task {
	return Task{
		Name:  "restore",
		Usage: "make a volume what it was when a snapshot of it was made",
		Description: "The content that the volume has now is gone after that. The snapshot stays. The volume is the one or\n" +
			"the other at any time.",
		Example: "--target /var/lib/images/vm1.raw --name before-upgrade --yes",
		Flags:   append(slices.Concat(o.OnSnapshot.flags(), o.Sealed.flags(&o.Secret), o.Overlay.flags()), text("format", &o.Format, "format of the snapshot: `"+formatWords()+"`")),
		Asks:    true,
	}
}

// SnapshotRestoreRequest asks to make a volume what it was.
type SnapshotRestoreRequest struct {
	snapshotInPath
	JobOptions
}

var _ interface {
	Request
	OfSnapshot
} = (*SnapshotRestoreRequest)(nil)

// Plan restores the volume.
func (r *SnapshotRestoreRequest) Plan(k Known) (Operation, error) {
	s, err := k.Other(k.Volume.Pool, record.SnapshotFile(k.Volume.Name, r.snapshot))
	if err != nil {
		return nil, err
	}
	return &SnapshotRestore{Overlay: overlayFor(s, k), OnSnapshot: OnSnapshot{Volume: k.On, Snapshot: r.snapshot}, Format: s.Format, Secret: s.Secret}, nil
}
