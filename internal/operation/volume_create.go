package operation

import (
	"storaged/internal/record"
)

// Create makes a new volume, empty or with a content from outside.
type Create struct {
	Terms
	Volume
	Content
	Capacity   int64  `json:"capacity,omitempty"`   // bytes; 0: that of the content
	Allocation *int64 `json:"allocation,omitempty"` // bytes that shall have blocks; nil: all, and none of a content
	Keep       bool   `json:"keep,omitempty"`       // what is unfinished stays
	Resume     bool   `json:"-"`
}

var _ Operation = (*Create)(nil)

// NewCreate gives one with the defaults of its task.
func NewCreate() *Create { return &Create{Volume: Volume{Type: defaultType}, Content: newContent()} }

// Kind is volume.create.
func (*Create) Kind() record.Kind { return record.VolumeCreate }

// Class: what writes much, or waits for its client, is no short job.
func (o *Create) Class() record.Class {
	if o.Form == "" && (o.Allocation == nil || *o.Allocation == 0) {
		return record.Normal
	}
	return record.Async
}

// Locks is the name that the volume will have.
func (o *Create) Locks() []record.Object { return []record.Object{o.lock(record.ModeWrite)} }

// Destroys nothing: what is there already is never replaced.
func (*Create) Destroys() bool { return false }

// Settle removes what is unfinished.
func (o *Create) Settle() *Settle { return &Settle{Volume: o.Volume, Keep: o.Keep} }

// Task is allocate.
func (o *Create) Task() Task {
	return Task{
		Name:  "allocate",
		Usage: "make a new volume",
		Description: "The volume appears under its name when it is complete, and never replaces another. With --source\n" +
			"it gets that content; then its size is that of the content, unless --capacity is more.",
		Example: "--target /var/lib/images/vm1.raw --capacity 10G",
		Flags: append(append(o.Volume.flags("target"), o.Content.flags()...),
			bytes("capacity", &o.Capacity, "`SIZE` that it can hold"),
			Flag{Name: "allocation", Usage: "reserve for it (default full, and none with --source): `full|none|SIZE`", value: amount{&o.Allocation}},
			onFailure(&o.Keep), resume(&o.Resume),
		),
	}
}
