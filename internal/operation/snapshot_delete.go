package operation

import "storaged/internal/record"

// SnapshotDelete deletes a snapshot of a volume, which stays as it is.
type SnapshotDelete struct {
	Terms
	OnSnapshot
}

// NewSnapshotDelete gives one with the defaults of its task.
func NewSnapshotDelete() *SnapshotDelete { return &SnapshotDelete{OnSnapshot: newOnSnapshot()} }

// Kind is snapshot.delete.
func (*SnapshotDelete) Kind() record.Kind { return record.SnapshotDelete }

// Class: it is but a name that goes.
func (*SnapshotDelete) Class() record.Class { return record.Normal }

// Locks the snapshot alone.
func (o *SnapshotDelete) Locks() []record.Object {
	return []record.Object{o.lock(record.ModeQuery), o.lockSnapshot(record.ModeDelete)}
}

// Settle finds out whether it is gone.
func (o *SnapshotDelete) Settle() *Settle {
	return &Settle{Volume: o.Volume, Snapshot: o.Snapshot, Deleted: true}
}

// Effect: the volume has a snapshot less.
func (*SnapshotDelete) Effect() Effect { return Discards }

// Destroys the snapshot.
func (*SnapshotDelete) Destroys() bool { return true }

// Displaces it.
func (*SnapshotDelete) Displaces() bool { return true }

// Allowed refuses a snapshot that is not there.
func (o *SnapshotDelete) Allowed(k Known) error { return o.there(k) }

// Task is delete-snapshot.
func (o *SnapshotDelete) Task() Task {
	return Task{
		Name: "delete-snapshot", Usage: "delete a snapshot of a volume",
		Description: "The volume stays as it is. A snapshot that is in use is refused.",
		Example:     "--target /var/lib/images/vm1.raw --name before-upgrade --yes",
		Flags:       o.OnSnapshot.flags(),
		Asks:        true,
	}
}

// SnapshotDeleteRequest asks to delete a snapshot; it comes as the query of a
// DELETE.
type SnapshotDeleteRequest struct {
	named
	JobOptions
}

var _ interface {
	Request
	OfSnapshot
} = (*SnapshotDeleteRequest)(nil)

// Plan deletes it.
func (r *SnapshotDeleteRequest) Plan(k Known) (Operation, error) {
	return &SnapshotDelete{OnSnapshot: OnSnapshot{Volume: k.On, Snapshot: r.snapshot}}, nil
}
