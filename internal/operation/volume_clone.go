package operation

import "storaged/internal/record"

// Clone copies a volume to a new one.
type Clone struct {
	Terms
	Volume // the source
	Into
	Format     string `json:"format"`               // of both
	Capacity   int64  `json:"capacity,omitempty"`   // bytes of the copy; 0: as the source
	Allocation int64  `json:"allocation,omitempty"` // bytes that the copy may need
	Promise    *int64 `json:"promise,omitempty"`    // bytes of the copy that shall have blocks; nil: as comes
	Reflink    string `json:"reflink"`              // auto, always, never
	Sparse     bool   `json:"sparse,omitempty"`     // what reads as zeros is left out
	Keep       bool   `json:"keep,omitempty"`       // what is unfinished stays
	Resume     bool   `json:"-"`
}

var _ Operation = (*Clone)(nil)

// NewClone gives one with the defaults of its task.
func NewClone() *Clone {
	return &Clone{Volume: Volume{Type: defaultType}, Into: newInto(), Reflink: "auto"}
}

// Kind is volume.clone.
func (*Clone) Kind() record.Kind { return record.VolumeClone }

// Class: it takes as long as there is to copy.
func (*Clone) Class() record.Class { return record.Async }

// Locks: others may read the source too.
func (o *Clone) Locks() []record.Object {
	return []record.Object{o.lock(record.ModeRead), o.Target.lock(record.ModeWrite)}
}

// Destroys nothing.
func (*Clone) Destroys() bool { return false }

// Settle removes an unfinished copy.
func (o *Clone) Settle() *Settle { return &Settle{Volume: Volume(o.Target), Keep: o.Keep} }

// Task is clone.
func (o *Clone) Task() Task {
	return Task{
		Name:  "clone",
		Usage: "copy a volume to a new one",
		Description: "The copy appears under its name when it is complete, and never replaces another. Holes stay\n" +
			"holes, unless --allocation says otherwise, and reserved blocks stay reserved, except with --sparse.\n" +
			"Owner, permissions, ACL and attributes user.* are those of the source. The source may grow\n" +
			"meanwhile; the copy has the size that the source had at the start.",
		Example: "--source base.raw --target vm1.raw --limit 200M",
		Flags: append(append(o.Target.flags(), o.Volume.flags("source")...), o.Volume.known(), imageFormat(&o.Format),
			bytes("size", &o.Capacity, "`SIZE` of the copy, default that of the source"),
			text("reflink", &o.Reflink, "share blocks with the source: `auto|always|never`"),
			promised(&o.Promise),
			onOff("sparse", &o.Sparse, "leave out blocks of zeros"),
			onFailure(&o.Keep), resume(&o.Resume),
		),
	}
}
