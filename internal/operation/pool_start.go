package operation

import (
	"slices"

	"storaged/internal/record"
)

// PoolStart makes the volumes of a pool reachable, and reads them.
type PoolStart struct {
	OnPool
	Rights // of what is built
	Beside
	Sealed       // the source's
	Build   bool `json:"build,omitempty"`    // its storage before, unless it is there
	ExistOK bool `json:"exist_ok,omitempty"` // it may be in use already
}

// NewPoolStart gives one with the defaults of its task.
func NewPoolStart() *PoolStart { return &PoolStart{OnPool: newOnPool()} }

// Kind is pool.start.
func (*PoolStart) Kind() record.Kind { return record.PoolStart }

// Effect: it is in use from then on.
func (*PoolStart) Effect() Effect { return Starts }

// Allowed refuses a pool that is in use.
func (*PoolStart) Allowed(k Known) error {
	if k.Pool.State == record.PoolInactive {
		return nil
	}
	return record.Errorf(record.WrongState, "pool %q is %s already", k.Pool.Name, k.Pool.State)
}

// Tolerates that it is in use.
func (o *PoolStart) Tolerates() record.Code {
	if !o.ExistOK {
		return ""
	}
	return record.WrongState
}

// Done if it is in use.
func (*PoolStart) Done(is Known) (bool, error) { return is.Pool.State == record.PoolActive, nil }

// Keys is the secret by which the source lets this host in.
func (o *PoolStart) Keys() []string { return []string{o.PoolSource.Secret} }

// Task is pool-start.
func (o *PoolStart) Task() Task {
	return Task{
		Name: "pool-start", Usage: "make the volumes of a pool reachable, and list them",
		Example: "--type dir --target /var/lib/images --build",
		Flags: append(slices.Concat(o.Volume.pool(), o.Rights.flags(), o.Beside.flags()), identity("pool-id", &o.PoolID), o.Sealed.files(),
			onOff("build", &o.Build, "make its storage before, unless it is there; not where --pool-id says that it has been")),
	}
}

// PoolStartRequest asks to make the volumes of a pool reachable.
type PoolStartRequest struct{ JobOptions }

// Plan builds nothing: a pool that was there is not replaced by an empty one.
func (*PoolStartRequest) Plan(k Known) (Operation, error) {
	return &PoolStart{OnPool: OnPool{Volume: k.On}}, nil
}
