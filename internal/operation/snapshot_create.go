package operation

import (
	"cmp"
	"slices"

	"storaged/internal/record"
)

// SnapshotCreate keeps a volume as it is now.
type SnapshotCreate struct {
	Terms
	OnSnapshot
	Sealed
	Overlay
	Secret string `json:"secret,omitempty"` // name of the one that opens both
	Format string `json:"format"`           // of both
}

var _ interface {
	Operation
	Grows
	Overlaying
} = (*SnapshotCreate)(nil)

// NewSnapshotCreate gives one with the defaults of its task.
func NewSnapshotCreate() *SnapshotCreate {
	return &SnapshotCreate{OnSnapshot: newOnSnapshot(), Format: record.FormatRaw}
}

// Kind is snapshot.create.
func (*SnapshotCreate) Kind() record.Kind { return record.SnapshotCreate }

// Class: nothing is copied.
func (*SnapshotCreate) Class() record.Class { return record.Normal }

// Locks the volume against everybody: what it stands on may change.
func (o *SnapshotCreate) Locks() []record.Object {
	return []record.Object{o.lock(record.ModeWrite), o.lockSnapshot(record.ModeWrite)}
}

// Backing is what an overlay stands on.
func (o *SnapshotCreate) Backing() string { return o.Name }

// Settle removes what is unfinished.
func (o *SnapshotCreate) Settle() *Settle {
	return &Settle{Volume: o.Volume, Snapshot: o.Snapshot, Format: o.Format}
}

// Keys: what stands on a volume that is encrypted is, too.
func (o *SnapshotCreate) Keys() []string { return []string{o.Secret} }

// Effect: the volume has a snapshot more.
func (*SnapshotCreate) Effect() Effect { return Preserves }

// Relies on the content.
func (*SnapshotCreate) Relies() bool { return true }

// Allowed refuses a second one of the same name, one that a volume has already, and a volume
// whose content lies elsewhere, or is opened by another secret by now.
func (o *SnapshotCreate) Allowed(k Known) error {
	if slices.Contains(k.Volume.Snapshots, o.Snapshot) {
		return record.Errorf(record.Exists, "volume %s has a snapshot %q already", k.quoted(), o.Snapshot).
			WithHint("choose another name; %s deletes that one", record.Do("snapshot.delete", k.name()+"@"+o.Snapshot))
	}
	switch _, err := k.Other(k.On.Pool, o.Name+"@"+o.Snapshot); {
	case err == nil:
		return record.Errorf(record.Exists, "%q is a volume already", k.name()+"@"+o.Snapshot).WithHint("choose another name")
	case record.CodeOf(err) != record.NotFound:
		return err
	}
	if err := k.opened(o.Secret); err != nil {
		return err
	}
	return k.contained("a snapshot of the volume's own file would share with it", k.whole())
}

// Task is snapshot.
func (o *SnapshotCreate) Task() Task {
	return Task{
		Name:  "snapshot",
		Usage: "keep a volume as it is now",
		Description: "The snapshot lies beside the volume, as .VOLUME@NAME.storaged, and shares its blocks until the\n" +
			"volume is written to. Where the file system cannot share blocks, a qcow2's own file becomes the\n" +
			"snapshot, and the volume an empty image that stands on it; other formats are refused.",
		Example: "--target /var/lib/images/vm1.raw --name before-upgrade",
		Flags:   append(slices.Concat(o.OnSnapshot.flags(), o.Sealed.flags(&o.Secret), o.Overlay.flags()), text("format", &o.Format, "format of the volume: `"+formatWords()+"`")),
	}
}

// SnapshotCreateRequest asks for a snapshot of a volume, by that name.
type SnapshotCreateRequest struct {
	Name string `json:"name"`
	JobOptions
}

// Check refuses what is no name.
func (r *SnapshotCreateRequest) Check() error {
	return cmp.Or(checkNewName(r.Name), r.JobOptions.Check())
}

// Plan refuses a name that is too long together with the volume's.
func (r *SnapshotCreateRequest) Plan(k Known) (Operation, error) {
	if err := record.CheckSnapshot(k.Volume.Name, r.Name); err != nil {
		return nil, record.Errorf(record.Invalid, `field "name": %v`, err)
	}
	return &SnapshotCreate{Overlay: overlayFor(k.Volume, k), OnSnapshot: OnSnapshot{Volume: k.On, Snapshot: r.Name}, Format: k.Volume.Format, Secret: k.Volume.Secret}, nil
}
