package operation

import "storaged/internal/record"

// OnPool is what operations on a whole pool have in common.
type OnPool struct {
	Terms
	Volume // of which only the pool counts
}

func newOnPool() OnPool { return OnPool{Volume: Volume{Type: defaultType}} }

// Class: it takes no longer than a look at a directory.
func (*OnPool) Class() record.Class { return record.Normal }

// Locks the pool against everybody.
func (o *OnPool) Locks() []record.Object { return []record.Object{o.lock(record.ModeDelete)} }

// Destroys nothing.
func (*OnPool) Destroys() bool { return false }

// Settle: each is safe to repeat.
func (*OnPool) Settle() *Settle { return nil }

// PoolBuild makes the storage that a pool stands on.
type PoolBuild struct {
	OnPool
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

// Task is pool-build.
func (o *PoolBuild) Task() Task {
	return Task{
		Name: "pool-build", Usage: "make the storage of a pool", Example: "--type dir --target /var/lib/images",
		Flags: append(o.Volume.pool(), onOff("overwrite", &o.Overwrite, "even if there is something already")),
		Asks:  true,
	}
}

// PoolStart makes the volumes of a pool reachable, and reads them.
type PoolStart struct {
	OnPool
	Build bool `json:"build,omitempty"` // its storage before, unless it is there
}

// NewPoolStart gives one with the defaults of its task.
func NewPoolStart() *PoolStart { return &PoolStart{OnPool: newOnPool()} }

// Kind is pool.start.
func (*PoolStart) Kind() record.Kind { return record.PoolStart }

// Task is pool-start.
func (o *PoolStart) Task() Task {
	return Task{
		Name: "pool-start", Usage: "make the volumes of a pool reachable, and list them",
		Example: "--type dir --target /var/lib/images --build",
		Flags: append(o.Volume.pool(), identity("pool-id", &o.PoolID),
			onOff("build", &o.Build, "make its storage before, unless it is there; not where --pool-id says that it has been")),
	}
}

// PoolStop makes the volumes of a pool unreachable.
type PoolStop struct{ OnPool }

// NewPoolStop gives one with the defaults of its task.
func NewPoolStop() *PoolStop { return &PoolStop{OnPool: newOnPool()} }

// Kind is pool.stop.
func (*PoolStop) Kind() record.Kind { return record.PoolStop }

// Task is pool-stop.
func (o *PoolStop) Task() Task {
	return Task{
		Name: "pool-stop", Usage: "make the volumes of a pool unreachable",
		Example: "--type dir --target /var/lib/images", Flags: o.Volume.pool(),
	}
}

// PoolRefresh lists the volumes of a pool.
type PoolRefresh struct {
	OnPool
	Discard []string `json:"discard,omitempty"` // uuids of jobs whose unfinished volumes are to go
}

// NewPoolRefresh gives one with the defaults of its task.
func NewPoolRefresh() *PoolRefresh { return &PoolRefresh{OnPool: newOnPool()} }

// Kind is pool.refresh.
func (*PoolRefresh) Kind() record.Kind { return record.PoolRefresh }

// Locks: what is found of a volume counts only if no job has that.
func (o *PoolRefresh) Locks() []record.Object { return []record.Object{o.lock(record.ModeMeta)} }

// Task is pool-refresh.
func (o *PoolRefresh) Task() Task {
	return Task{
		Name: "pool-refresh", Usage: "list the volumes of a pool",
		Example: "--type dir --target /var/lib/images -o json",
		Flags: append(o.Volume.pool(), identity("pool-id", &o.PoolID),
			Flag{Name: "discard", Usage: "before, remove what the job `UUID` left unfinished; may be repeated", value: (*list)(&o.Discard)}),
	}
}

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

// PoolDelete destroys the storage of a pool.
type PoolDelete struct {
	OnPool
	WithVolumes bool     `json:"with_volumes,omitempty"`
	Others      []string `json:"-"` // identities of pools in use, when the job begins
}

// NewPoolDelete gives one with the defaults of its task.
func NewPoolDelete() *PoolDelete { return &PoolDelete{OnPool: newOnPool()} }

// Kind is pool.delete.
func (*PoolDelete) Kind() record.Kind { return record.PoolDelete }

// Destroys the pool, and with its volumes all they hold.
func (*PoolDelete) Destroys() bool { return true }

// Task is pool-delete.
func (o *PoolDelete) Task() Task {
	return Task{
		Name: "pool-delete", Usage: "destroy the storage of a pool", Example: "--type dir --target /var/lib/images --yes",
		Flags: append(o.Volume.pool(),
			onOff("with-volumes", &o.WithVolumes, "and its volumes"),
			identity("pool-id", &o.PoolID),
			Flag{Name: "other", Usage: "refuse if the pool is the one of this `IDENTITY`, which is in use; may be repeated", value: (*list)(&o.Others)}),
		Asks: true,
	}
}
