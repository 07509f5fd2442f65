package operation

import (
	"fmt"

	"storaged/internal/record"
)

// PoolDelete destroys the storage of a pool.
type PoolDelete struct {
	OnPool
	Beside
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
func (*PoolDelete) Allowed(k Known) error { return Inactive(k.Pool) }

// Displaces its volumes, if they go too.
func (o *PoolDelete) Displaces() bool { return o.WithVolumes }

// Task is pool-delete.
func (o *PoolDelete) Task() Task {
	return Task{
		Name: "pool-delete", Usage: "destroy the storage of a pool", Example: "--type dir --target /var/lib/images --yes",
		Flags: append(append(o.Volume.pool(), o.Beside.flags()...),
			onOff("with-volumes", &o.WithVolumes, "and its volumes"),
			identity("pool-id", &o.PoolID),
			Flag{Name: "other", Usage: "refuse if the pool is the one of this `IDENTITY`, which is in use; may be repeated", value: (*list)(&o.Others)}),
		Asks: true,
	}
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
