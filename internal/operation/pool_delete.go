package operation

import (
	"fmt"

	"storaged/internal/quantity"
	"storaged/internal/record"
)

// PoolDelete destroys the storage of a pool.
type PoolDelete struct {
	OnPool
	Beside
	WithVolumes bool     `json:"with_volumes,omitempty"`
	Held        []string `json:"-"` // names of the volumes and snapshots that are known when the job begins: no other goes
	Others      []string `json:"-"` // identities of pools in use, when the job begins

	warnings []string
}

var _ Warning = (*PoolDelete)(nil)

// NewPoolDelete gives one with the defaults of its task.
func NewPoolDelete() *PoolDelete { return &PoolDelete{OnPool: newOnPool()} }

// Kind is pool.delete.
func (*PoolDelete) Kind() record.Kind { return record.PoolDelete }

// Destroys the pool, and with its volumes all they hold.
func (*PoolDelete) Destroys() bool { return true }

// Effect: it is gone.
func (*PoolDelete) Effect() Effect { return Destroys }

// Allowed refuses a pool that is in use, and one whose storage nobody has seen or made:
// what its source carries may be anybody's.
func (*PoolDelete) Allowed(k Known) error {
	if err := Inactive(k.Pool); err != nil || k.Own || k.Pool.Source.SameStorage(record.Source{}) {
		return err
	}
	return record.Errorf(record.WrongState, "pool %q was never started or built: whether what is on its source is its own nobody knows, and so it is not deleted", k.Pool.Name).
		WithHint("%s forgets it and leaves its source as it is; to delete what is there: %s takes that for its own, and lists it", record.Do("pool.undefine", k.Pool.Name), record.Do("pool.start", k.Pool.Name))
}

// maxHeld bounds the volumes and snapshots that go with a pool. The command of the helper
// names each, by 255 bytes at most, and may have 2 MiB (execve(2)).
const maxHeld = 5000

// Hold says which volumes and snapshots the pool is known to have. Without any, none is
// to go.
func (o *PoolDelete) Hold(names []string) error {
	if len(names) > maxHeld {
		return record.Errorf(record.TooLarge, "pool %q holds %d volumes and snapshots; %d at most go with a pool", o.Pool, len(names), maxHeld).
			WithHint("start it, and delete some of them before (%s)", record.Do("volume.delete", o.Pool+"/VOLUME"))
	}
	o.Held, o.WithVolumes = names, len(names) > 0
	return nil
}

// Warnings tell what goes with the pool.
func (o *PoolDelete) Warnings(record.Volume) []string { return o.warnings }

// Displaces its volumes, if they go too.
func (o *PoolDelete) Displaces() bool { return o.WithVolumes }

// Task is pool-delete.
func (o *PoolDelete) Task() Task {
	return Task{
		Name: "pool-delete", Usage: "destroy the storage of a pool", Example: "--type dir --target /var/lib/images --yes",
		Flags: append(append(o.Volume.pool(), o.Beside.flags()...),
			onOff("with-volumes", &o.WithVolumes, "and its volumes"),
			Flag{Name: "volume", Usage: "refuse if it holds another volume or snapshot than `NAME`; may be repeated", value: (*list)(&o.Held)},
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
	vols, err := k.Volumes("")
	switch {
	case err != nil:
		return nil, err
	case r.WithVolumes:
		return o, o.take(k.Pool, vols)
	case len(vols) > 0:
		return nil, inhabited(k.Pool, vols)
	}
	return o, nil
}

// take makes it one of the pool with those volumes.
func (o *PoolDelete) take(p record.Pool, vols []record.Volume) error {
	var names []string
	allocated := int64(0)
	for _, v := range vols {
		names = append(names, v.Name)
		allocated = quantity.Sum(allocated, v.Allocation)
	}
	switch len(vols) {
	case 0:
	case 1:
		o.warnings = []string{fmt.Sprintf("1 volume goes with the pool, %s allocated, and its snapshots: %q", quantity.FormatBytes(allocated), names[0])}
	default:
		o.warnings = []string{fmt.Sprintf("%d volumes go with the pool, %s allocated, and their snapshots: %s", len(vols), quantity.FormatBytes(allocated), record.List(names, maxGoing))}
	}
	if p.Ignored > 0 {
		o.warnings = append(o.warnings, fmt.Sprintf("the pool holds %s that is no volume: that keeps it from being deleted", record.Plural(int(p.Ignored), "name")))
	}
	return o.Hold(names)
}

// Unforeseen is what nobody has looked for before the job begins.
func (*PoolDelete) Unforeseen() string {
	return "whether it can go as a whole is seen when the job begins: with a mount point for its directory, or a directory or something else in it that is no volume, it stays as it is"
}

// maxGoing bounds how many of the volumes that go are named to a client.
const maxGoing = 20

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
