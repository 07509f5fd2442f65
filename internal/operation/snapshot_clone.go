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

// Check refuses what no copy of a snapshot can be.
func (r *SnapshotCloneRequest) Check() error {
	if r.Overwrite {
		return record.Errorf(record.Unsupported, "a snapshot is cloned to a new volume, and not over one that is there").
			WithHint("clone it, then clone that over the volume")
	}
	return r.CloneRequest.Check()
}

// Plan makes a clone of the snapshot.
func (r *SnapshotCloneRequest) Plan(k Known) (Operation, error) {
	o, err := r.CloneRequest.Plan(k)
	if err != nil {
		return nil, err
	}
	return &SnapshotClone{*o.(*Clone)}, nil
}
