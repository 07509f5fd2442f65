package operation

import (
	"storaged/internal/quantity"
	"storaged/internal/record"
)

// PoolVerify reads every volume of a pool.
type PoolVerify struct {
	OnPool
	Capacity int64 `json:"capacity,omitempty"` // bytes to be read
}

// NewPoolVerify gives one with the defaults of its task.
func NewPoolVerify() *PoolVerify { return &PoolVerify{OnPool: newOnPool()} }

// Kind is pool.verify.
func (*PoolVerify) Kind() record.Kind { return record.PoolVerify }

// Class: it takes as long as there is to read.
func (*PoolVerify) Class() record.Class { return record.Async }

// Locks: others may read too.
func (o *PoolVerify) Locks() []record.Object { return []record.Object{o.lock(record.ModeRead)} }

// Effect: its volumes are read.
func (*PoolVerify) Effect() Effect { return Inspects }

// Allowed refuses a pool that is not in use.
func (*PoolVerify) Allowed(k Known) error { return Active(k.Pool) }

// Moves what its volumes hold, as far as they are known.
func (o *PoolVerify) Moves() (bytes int64, bounds bool) { return o.Capacity, false }

// Task is pool-verify.
func (o *PoolVerify) Task() Task {
	return Task{
		Name: "pool-verify", Usage: "read every volume of a pool and give the checksums",
		Description: "The volumes are those that there are at the start. One that cannot be read does not keep the\n" +
			"others from being read, and makes the exit code 11.",
		Example: "--type dir --target /var/lib/images -o json",
		Flags:   append(o.Volume.pool(), identity("pool-id", &o.PoolID)),
	}
}

// PoolVerifyRequest asks to read every volume of a pool.
type PoolVerifyRequest struct{ JobOptions }

// Plan counts what there is to read.
func (*PoolVerifyRequest) Plan(k Known) (Operation, error) {
	o := &PoolVerify{OnPool: OnPool{Volume: k.On}}
	vols, err := k.Volumes("")
	for _, v := range vols {
		o.Capacity = quantity.Sum(o.Capacity, v.Capacity)
	}
	return o, err
}
