package operation

import (
	"fmt"

	"storaged/internal/quantity"
	"storaged/internal/record"
)

// OnPool is what operations on a pool have in common. Each is safe to repeat:
// there is nothing to settle.
type OnPool struct {
	Terms
	Volume // of which only the pool counts
}

func newOnPool() OnPool { return OnPool{Volume: Volume{Type: defaultType}} }

// Class: it takes no longer than a look at a directory.
func (*OnPool) Class() record.Class { return record.Normal }

// Locks the pool against everybody.
func (o *OnPool) Locks() []record.Object { return []record.Object{o.lock(record.ModeDelete)} }

// active refuses a pool that is not in use.
func active(k Known) error {
	if k.Pool.State != record.PoolInactive {
		return nil
	}
	return record.Errorf(record.WrongState, "pool %q is not active", k.Pool.Name).WithHint("%s", record.Do("pool.start", k.Pool.Name))
}

// inactive refuses a pool that is in use.
func inactive(k Known) error {
	if k.Pool.State == record.PoolInactive {
		return nil
	}
	return record.Errorf(record.WrongState, "pool %q is %s", k.Pool.Name, k.Pool.State).WithHint("%s", record.Do("pool.stop", k.Pool.Name))
}

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

// Effect: it is made.
func (*PoolBuild) Effect() Effect { return Builds }

// Allowed refuses a pool that is in use.
func (*PoolBuild) Allowed(k Known) error { return inactive(k) }

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

// Effect: it is no longer in use.
func (*PoolStop) Effect() Effect { return Stops }

// Allowed refuses a pool that is not in use.
func (*PoolStop) Allowed(k Known) error {
	if k.Pool.State != record.PoolInactive {
		return nil
	}
	return record.Errorf(record.WrongState, "pool %q is not active", k.Pool.Name)
}

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

// Effect: its volumes are known then.
func (*PoolRefresh) Effect() Effect { return Lists }

// Allowed refuses a pool that is not in use.
func (*PoolRefresh) Allowed(k Known) error { return active(k) }

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

// Effect: its volumes are read.
func (*PoolVerify) Effect() Effect { return Inspects }

// Allowed refuses a pool that is not in use.
func (*PoolVerify) Allowed(k Known) error { return active(k) }

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

// Effect: it is gone.
func (*PoolDelete) Effect() Effect { return Destroys }

// Allowed refuses a pool that is in use.
func (*PoolDelete) Allowed(k Known) error { return inactive(k) }

// Displaces its volumes, if they go too.
func (o *PoolDelete) Displaces() bool { return o.WithVolumes }

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

// PoolBuildRequest asks to make a pool's storage.
type PoolBuildRequest struct {
	Overwrite bool `json:"overwrite,omitempty"`
	JobOptions
}

// Plan makes it as it is asked for.
func (r *PoolBuildRequest) Plan(k Known) (Operation, error) {
	return &PoolBuild{OnPool: OnPool{Volume: k.On}, Overwrite: r.Overwrite}, nil
}

// PoolStartRequest asks to make the volumes of a pool reachable.
type PoolStartRequest struct{ JobOptions }

// Plan builds nothing: a pool that was there is not replaced by an empty one.
func (*PoolStartRequest) Plan(k Known) (Operation, error) {
	return &PoolStart{OnPool: OnPool{Volume: k.On}}, nil
}

// PoolStopRequest asks to stop a pool. Force cancels the jobs that are in the way.
type PoolStopRequest struct {
	Force bool `json:"force,omitempty"`
	Missing
	JobOptions
}

// Plan leaves those jobs to the service.
func (*PoolStopRequest) Plan(k Known) (Operation, error) {
	return &PoolStop{OnPool{Volume: k.On}}, nil
}

// PoolRefreshRequest asks to list the volumes of a pool.
type PoolRefreshRequest struct{ JobOptions }

// Plan makes it as it is asked for.
func (*PoolRefreshRequest) Plan(k Known) (Operation, error) {
	return &PoolRefresh{OnPool: OnPool{Volume: k.On}}, nil
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

// PoolDeleteRequest asks to destroy a pool's storage.
type PoolDeleteRequest struct {
	WithVolumes bool `json:"with_volumes,omitempty"`
	Missing
	JobOptions
}

// Plan refuses a pool that is known to hold volumes, unless they are to go too.
func (r *PoolDeleteRequest) Plan(k Known) (Operation, error) {
	o := &PoolDelete{OnPool: OnPool{Volume: k.On}, WithVolumes: r.WithVolumes}
	if r.WithVolumes {
		return o, nil
	}
	vols, err := k.Volumes("")
	if err != nil || len(vols) == 0 {
		return o, err
	}
	return nil, inhabited(k.Pool, vols)
}

// inhabited refuses to delete a pool that holds volumes, and says what else is
// in the way.
func inhabited(p record.Pool, vols []record.Volume) error {
	names := make([]string, len(vols))
	for i, v := range vols {
		names[i] = v.Name
	}
	holds := "holds " + record.Plural(len(vols), "volume")
	hint := record.Hintf("%s deletes them too", record.Do("pool.delete", p.Name).With("with_volumes"))
	if p.State != record.PoolInactive {
		holds = fmt.Sprintf("is %s and %s", p.State, holds)
		hint = record.Hintf("%s; then %s", record.Do("pool.stop", p.Name), hint)
	}
	return record.Errorf(record.HasChildren, "pool %q %s: %s", p.Name, holds, record.List(names, 5)).WithHint("%s", hint)
}
