package operation

import (
	"cmp"
	"fmt"
	"slices"

	"storaged/internal/quantity"
	"storaged/internal/record"
)

// Detachable reports whether images in a format can be made independent, or stand on
// another, in place.
func Detachable(format string) bool { return slices.Contains(record.FormatsDetachable, format) }

// Flatten makes a volume independent of what it stands on.
type Flatten struct {
	Terms
	Volume
	Sealed
	Chain
	Format     string `json:"format"`
	Capacity   int64  `json:"capacity,omitempty"`   // bytes that may have to be read
	Allocation int64  `json:"allocation,omitempty"` // bytes that it may need
	Resume     bool   `json:"-"`

	warnings []string // of snapshots that go on to need others
}

var _ interface {
	Operation
	Chained
	Grows
	Warning
} = (*Flatten)(nil)

// NewFlatten gives one with the defaults of its task.
func NewFlatten() *Flatten {
	return &Flatten{Volume: Volume{Type: defaultType}, Format: "qcow2"}
}

// Kind is volume.flatten.
func (*Flatten) Kind() record.Kind { return record.VolumeFlatten }

// Class: it takes as long as there is to copy.
func (*Flatten) Class() record.Class { return record.Async }

// Locks the volume against everybody; what it stands on may be read.
func (o *Flatten) Locks() []record.Object {
	return append([]record.Object{o.lock(record.ModeWrite)}, o.Chain.locks()...)
}

// Settle looks what it is now.
func (o *Flatten) Settle() *Settle { return &Settle{Volume: o.Volume, Format: o.Format} }

// Effect: the content stays the same.
func (*Flatten) Effect() Effect { return Arranges }

// Warnings: what it stands on counts for the snapshots in its image too, and those beside
// it go on to stand on what they do.
func (o *Flatten) Warnings(on record.Volume) []string {
	if len(o.Layers) == 0 {
		return o.warnings
	}
	return append(losesInternal(on, shifted), o.warnings...)
}

// Relies on the content.
func (*Flatten) Relies() bool { return true }

// Allowed refuses an image whose content lies in other files.
func (o *Flatten) Allowed(k Known) error { return k.flattenable() }

// flattenable refuses a volume that stands on nothing in any case, and one that cannot be
// given another backing in place.
func (k Known) flattenable() error {
	if !Detachable(k.Volume.Format) && len(k.References) == 0 {
		return record.Errorf(record.Unsupported, "volume %s is in format %s and needs no other volume: there is nothing to flatten",
			k.quoted(), cmp.Or(k.Volume.Format, "unknown"))
	}
	return k.detachable()
}

// detachable refuses a volume that cannot be given another backing in place.
func (k Known) detachable() error {
	if !Detachable(k.Volume.Format) {
		return record.Errorf(record.Unsupported, "volume %s is in format %s, in which what a volume stands on cannot be changed in place; it can in %s",
			k.quoted(), cmp.Or(k.Volume.Format, "unknown"), record.List(record.FormatsDetachable, 10)).
			WithHint("%s", k.whole())
	}
	return k.contained("has to come with it", k.whole())
}

// Moves what may have to be read.
func (o *Flatten) Moves() (bytes int64, bounds bool) { return o.Capacity, true }

// Needs what those have that it stands on, as far as it has not as much itself.
func (o *Flatten) Needs() (bytes int64, unless string) { return o.Allocation, "" }

// Smaller is to choose another pool.
func (*Flatten) Smaller() record.Hint { return elsewhere() }

// Task is flatten.
func (o *Flatten) Task() Task {
	return Task{
		Name:  "flatten",
		Usage: "make a volume independent of what it stands on",
		Description: "What it lacks itself is copied into it from what it stands on, and then its header names nothing\n" +
			"more. The content stays the same, at any time: one that was flattened half-way is complete, and\n" +
			"stands on what it stood on. Doing it again goes on where it was stopped.",
		Example: `--target vm1.qcow2 --layer '{"path":"/var/lib/images/base.raw","format":"raw"}'`,
		Flags: append(append(append(o.Volume.flags("target"), o.Volume.known(), imageFormat(&o.Format)), o.Chain.flags("layer")...),
			append(o.Sealed.flags(&o.Chain.Secret), resume(&o.Resume))...),
	}
}

// FlattenRequest asks to make a volume independent of what it stands on.
type FlattenRequest struct{ JobOptions }

// Plan reads what the volume stands on.
func (*FlattenRequest) Plan(k Known) (Operation, error) {
	if err := k.flattenable(); err != nil {
		return nil, err
	}
	chain, err := k.Chain()
	if err == nil {
		err = k.takesInClear(chain)
	}
	if err != nil {
		return nil, err
	}
	return &Flatten{Volume: k.On, Chain: chain, Format: k.Volume.Format, Capacity: k.Volume.Capacity, Allocation: k.lacks(chain), warnings: k.snapshotsOnOthers()}, nil
}

// snapshotsOnOthers warns of snapshots of the volume that stand on other volumes, and keep
// those when the volume itself needs them no more.
func (k Known) snapshotsOnOthers() (all []string) {
	for _, name := range k.Volume.Snapshots {
		file := record.SnapshotFile(k.Volume.Name, name)
		under, err := k.Under(k.Volume.Pool, file)
		if err != nil {
			continue // what has a problem says so itself
		}
		i := slices.IndexFunc(under.Layers, func(l Layer) bool {
			of, _, is := record.ParseSnapshot(l.Name)
			return !is || l.Pool != k.Volume.Pool || of != k.Volume.Name
		})
		if i < 0 {
			continue
		}
		on, snapshot := under.Layers[i], k.name()+"@"+name
		all = append(all, fmt.Sprintf("snapshot %q stands on volume %s still, which has to stay until the snapshot is deleted: storagedctl vol snapshot delete %s",
			snapshot, record.Quoted(on.Pool, record.Shown(on.Name)), snapshot))
	}
	return all
}

// lacks is how many bytes those have at most that a volume stands on and it has not.
func (k Known) lacks(chain Chain) (n int64) {
	for _, l := range chain.Layers {
		n = quantity.Sum(n, l.Allocation)
	}
	return max(0, min(n, k.Volume.Capacity)-k.Volume.Allocation)
}
