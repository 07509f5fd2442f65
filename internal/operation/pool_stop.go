package operation

import "storaged/internal/record"

// PoolStop makes the volumes of a pool unreachable.
type PoolStop struct {
	OnPool
	Force bool `json:"force,omitempty"` // although volumes of other pools stand on its
}

// NewPoolStop gives one with the defaults of its task.
func NewPoolStop() *PoolStop { return &PoolStop{OnPool: newOnPool()} }

// Kind is pool.stop.
func (*PoolStop) Kind() record.Kind { return record.PoolStop }

// Effect: it is no longer in use.
func (*PoolStop) Effect() Effect { return Stops }

// Allowed refuses a pool that is not in use. One with a source may be mounted all the
// same: a start that was ended has left it so, and nothing else takes it away.
func (*PoolStop) Allowed(k Known) error {
	if k.Pool.State != record.PoolInactive || !k.Pool.Source.SameStorage(record.Source{}) {
		return nil
	}
	return record.Errorf(record.WrongState, "pool %q is not active", k.Pool.Name)
}

// Task is pool-stop.
func (o *PoolStop) Task() Task {
	return Task{
		Name: "pool-stop", Usage: "make the volumes of a pool unreachable",
		Example: "--type dir --target /var/lib/images",
		Flags:   append(o.Volume.pool(), onOff("force", &o.Force, "take away a mount whose server does not answer")),
	}
}

// PoolStopRequest asks to stop a pool. Force cancels the jobs that are in the way, does not
// mind volumes of other pools that stand on its, and takes away a mount whose server does
// not answer.
type PoolStopRequest struct {
	Force bool `json:"force,omitempty"`
	Missing
	JobOptions
}

// Plan leaves those jobs to the service.
func (r *PoolStopRequest) Plan(k Known) (Operation, error) {
	return &PoolStop{OnPool{Volume: k.On}, r.Force}, nil
}
