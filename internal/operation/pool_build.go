package operation

import (
	"slices"

	"storaged/internal/record"
)

// PoolBuild makes the storage that a pool stands on.
type PoolBuild struct {
	OnPool
	Rights
	Beside
	Overwrite bool `json:"overwrite,omitempty"`
}

// NewPoolBuild gives one with the defaults of its task.
func NewPoolBuild() *PoolBuild { return &PoolBuild{OnPool: newOnPool()} }

// Kind is pool.build.
func (*PoolBuild) Kind() record.Kind { return record.PoolBuild }

// Class: to make a file system takes its time.
func (*PoolBuild) Class() record.Class { return record.Async }

// Destroys what is there, if that is to be overwritten.
func (o *PoolBuild) Destroys() bool { return o.Overwrite }

// Effect: it is made.
func (*PoolBuild) Effect() Effect { return Builds }

// Allowed refuses a pool that is in use.
func (*PoolBuild) Allowed(k Known) error { return Inactive(k.Pool) }

// Task is pool-build.
func (o *PoolBuild) Task() Task {
	return Task{
		Name: "pool-build", Usage: "make the storage of a pool", Example: "--type dir --target /var/lib/images",
		Flags: append(slices.Concat(o.Volume.pool(), o.Rights.flags(), o.Beside.flags()),
			onOff("overwrite", &o.Overwrite, "even if there is something already; a directory stays as it is")),
		Asks: true,
	}
}

// PoolBuildRequest asks to make a pool's storage.
type PoolBuildRequest struct {
	Overwrite bool `json:"overwrite,omitempty"`
	JobOptions
}

// Plan makes it as it is asked for.
func (r *PoolBuildRequest) Plan(k Known) (Operation, error) {
	return &PoolBuild{OnPool: OnPool{Volume: k.On}, Rights: Rights{k.Pool.Target.Rights}, Overwrite: r.Overwrite}, nil
}
