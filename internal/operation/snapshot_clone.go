package operation

import "storaged/internal/record"

// SnapshotClone makes a new volume of a snapshot, which is the volume that it is on.
type SnapshotClone struct{ Clone }

// Kind is snapshot.clone.
func (*SnapshotClone) Kind() record.Kind { return record.SnapshotClone }

// SnapshotCloneRequest asks for a new volume that is like a snapshot.
type SnapshotCloneRequest struct {
	snapshotInPath
	CloneRequest
}

var _ interface {
	Request
	Sender
	OfSnapshot
} = (*SnapshotCloneRequest)(nil)

// Plan makes a clone of the snapshot.
func (r *SnapshotCloneRequest) Plan(k Known) (Operation, error) {
	o, err := r.CloneRequest.Plan(k)
	if err != nil {
		return nil, err
	}
	return &SnapshotClone{*o.(*Clone)}, nil
}
