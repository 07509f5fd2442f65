package operation

import "storaged/internal/record"

// Resize changes a volume's capacity.
type Resize struct {
	Terms
	Volume
	Format     string `json:"format,omitempty"`
	Capacity   int64  `json:"capacity,omitempty"`   // bytes that it shall hold
	Allocation int64  `json:"allocation,omitempty"` // bytes that it may need
	Shrink     bool   `json:"shrink,omitempty"`
	Allocate   bool   `json:"allocate,omitempty"` // what is new gets blocks
}

var _ Operation = (*Resize)(nil)

// NewResize gives one with the defaults of its task.
func NewResize() *Resize { return &Resize{Volume: Volume{Type: defaultType}} }

// Kind is volume.resize.
func (*Resize) Kind() record.Kind { return record.VolumeResize }

// Class: without blocks to find it changes a number.
func (o *Resize) Class() record.Class {
	if o.Allocate {
		return record.Async
	}
	return record.Normal
}

// Locks: a volume that only grows may be read meanwhile.
func (o *Resize) Locks() []record.Object {
	if o.Shrink {
		return []record.Object{o.lock(record.ModeWrite)}
	}
	return []record.Object{o.lock(record.ModeGrow)}
}

// Destroys what lies behind the new end.
func (o *Resize) Destroys() bool { return o.Shrink }

// Settle looks what it is now.
func (o *Resize) Settle() *Settle { return &Settle{Volume: o.Volume} }

// Task is resize.
func (o *Resize) Task() Task {
	return Task{
		Name:        "resize",
		Usage:       "change the capacity of a volume",
		Description: "What is new reads as zeros; what --shrink cuts off is gone.",
		Example:     "--target vm1.raw --capacity 20G --allocate",
		Flags: append(o.Volume.flags("target"), o.Volume.known(),
			bytes("capacity", &o.Capacity, "`SIZE` that it shall hold"),
			onOff("shrink", &o.Shrink, "it may become smaller, and lose its end"),
			onOff("allocate", &o.Allocate, "reserve the space of what is new"),
		),
		Asks: true,
	}
}
