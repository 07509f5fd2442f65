package operation

import (
	"cmp"
	"path/filepath"

	"storaged/internal/quantity"
	"storaged/internal/record"
)

// SnapshotDelete deletes a snapshot of a volume. What stands on it, the volume and
// later snapshots, gets what it lacks itself from it before, and stands on what the
// snapshot stood on.
type SnapshotDelete struct {
	Terms
	OnSnapshot
	Sealed
	Chain              // what the snapshot stands on, where others stand on it
	Format     string  `json:"format,omitempty"`     // of the snapshot
	Allocation int64   `json:"allocation,omitempty"` // bytes that it has
	Above      []Layer `json:"above,omitempty"`      // the volume and snapshots of it that stand on it
	Resume     bool    `json:"-"`

	warnings []string // of snapshots that images themselves have
}

var _ interface {
	Operation
	Chained
	Grows
} = (*SnapshotDelete)(nil)

// NewSnapshotDelete gives one with the defaults of its task.
func NewSnapshotDelete() *SnapshotDelete {
	return &SnapshotDelete{OnSnapshot: newOnSnapshot(), Format: record.FormatRaw}
}

// Kind is snapshot.delete.
func (*SnapshotDelete) Kind() record.Kind { return record.SnapshotDelete }

// Class: where nothing stands on it, it is but a name that goes.
func (o *SnapshotDelete) Class() record.Class {
	if len(o.Above) > 0 {
		return record.Async
	}
	return record.Normal
}

// Locks the snapshot, which the job is about, and what stands on it against everybody; what
// it stands on may be read.
func (o *SnapshotDelete) Locks() []record.Object {
	all := []record.Object{o.lockSnapshot(record.ModeDelete), o.lock(record.ModeQuery)}
	for _, l := range o.Above {
		if l.Name == o.Name {
			all[1].Mode = record.ModeWrite
			continue
		}
		all = append(all, l.lock(record.ModeWrite))
	}
	return append(all, o.Chain.locks()...)
}

// Settle finds out whether it is gone, and what stands on what.
func (o *SnapshotDelete) Settle() *Settle {
	s := &Settle{Volume: o.Volume, Snapshot: o.Snapshot, Deleted: true}
	for _, l := range o.Above {
		s.Above = append(s.Above, l.Format+":"+filepath.Base(l.Path))
	}
	return s
}

// Warnings name snapshots that images themselves have.
func (o *SnapshotDelete) Warnings(record.Volume) []string { return o.warnings }

// Keys are those of what stands on it, too.
func (o *SnapshotDelete) Keys() (names []string) {
	for _, l := range o.Above {
		names = append(names, l.Secret)
	}
	return names
}

// Effect: the volume has a snapshot less.
func (*SnapshotDelete) Effect() Effect { return Discards }

// Destroys the snapshot.
func (*SnapshotDelete) Destroys() bool { return true }

// Displaces it.
func (*SnapshotDelete) Displaces() bool { return true }

// Moves what it has, into each that stands on it.
func (o *SnapshotDelete) Moves() (bytes int64, bounds bool) {
	for range o.Above {
		bytes = quantity.Sum(bytes, o.Allocation)
	}
	return bytes, true
}

// Needs what it has for each that stands on it. How much of that those have themselves
// only the helper finds out.
func (o *SnapshotDelete) Needs() (bytes int64, unless string) {
	bytes, _ = o.Moves()
	return bytes, "the snapshot can be deleted only if what stands on it has enough of that itself"
}

// Smaller is to delete all of it.
func (o *SnapshotDelete) Smaller() record.Hint {
	return record.Hintf("free some; %s needs no room", record.Do("volume.delete", o.Pool+"/"+o.Name).With("with_snapshots"))
}

// Allowed refuses a snapshot that is not there.
func (o *SnapshotDelete) Allowed(k Known) error { return o.there(k) }

// Task is delete-snapshot.
func (o *SnapshotDelete) Task() Task {
	return Task{
		Name: "delete-snapshot", Usage: "delete a snapshot of a volume",
		Description: "The volume stays as it is. What stands on the snapshot is given what it lacks itself, and stands on\n" +
			"what the snapshot stood on: its content is the same at any time, also where that is interrupted, and\n" +
			"doing it again goes on. A snapshot that is in use is refused.",
		Example: "--target /var/lib/images/vm1.raw --name before-upgrade --yes",
		Flags: append(append(o.OnSnapshot.flags(), o.Sealed.flags(&o.Chain.Secret)...),
			text("format", &o.Format, "format of the snapshot: `"+formatWords()+"`"),
			Flag{Name: "above", Usage: "what stands on the snapshot, a `LAYER` as JSON; may be repeated", value: (*layers)(&o.Above)},
			o.Chain.flags("layer")[0], resume(&o.Resume)),
		Asks: true,
	}
}

// SnapshotDeleteRequest asks to delete a snapshot; it comes as the query of a
// DELETE.
type SnapshotDeleteRequest struct {
	snapshotInPath
	JobOptions
}

var _ interface {
	Request
	OfSnapshot
} = (*SnapshotDeleteRequest)(nil)

// Plan refuses a snapshot that cannot be opened, where others of the volume's stand on
// it.
func (r *SnapshotDeleteRequest) Plan(k Known) (Operation, error) {
	o := &SnapshotDelete{OnSnapshot: OnSnapshot{Volume: k.On, Snapshot: r.snapshot}}
	if o.there(k) != nil {
		return o, nil // which it is refused for
	}
	above, err := k.Above(r.snapshot)
	if err == nil {
		err = o.warn(k, above)
	}
	if err != nil || len(above) == 0 {
		return o, err
	}
	under, err := k.Under(k.Volume.Pool, record.SnapshotFile(k.Volume.Name, r.snapshot))
	if err != nil {
		return nil, err
	}
	snapshot := under.Layers[0]
	o.Above, o.Format, o.Allocation = above, snapshot.Format, snapshot.Allocation
	o.Chain = Chain{Of: ChainOfSnapshot, Secret: snapshot.Secret, Layers: under.Layers[1:]}
	return o, nil
}

// warn notes which images have snapshots of their own: the one that goes, and those that
// stand on it.
func (o *SnapshotDelete) warn(k Known, above []Layer) error {
	is, err := k.Other(o.Pool, record.SnapshotFile(o.Name, o.Snapshot))
	o.warnings = losesInternal(is, "they go with it")
	for _, l := range above {
		if is, wrong := k.Other(l.Pool, l.Name); wrong == nil {
			o.warnings = append(o.warnings, losesInternal(is, shifted)...)
		} else {
			err = cmp.Or(err, wrong)
		}
	}
	return err
}
