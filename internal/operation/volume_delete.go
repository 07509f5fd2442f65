package operation

import (
	"strings"

	"storaged/internal/record"
)

// Delete deletes a volume, and wipes it before if that is asked for.
type Delete struct {
	Terms
	Volume
	Capacity     int64  `json:"capacity,omitempty"`  // bytes to be overwritten
	Algorithm    string `json:"algorithm,omitempty"` // of the wipe; "": none
	AcceptLimits bool   `json:"accept_limits,omitempty"`
}

var _ Operation = (*Delete)(nil)

// NewDelete gives one with the defaults of its task.
func NewDelete() *Delete { return &Delete{Volume: Volume{Type: defaultType}} }

// Kind is volume.delete.
func (*Delete) Kind() record.Kind { return record.VolumeDelete }

// Class: to wipe before takes as long as a wipe.
func (o *Delete) Class() record.Class {
	if o.Algorithm == "" {
		return record.Normal
	}
	return record.Async
}

// Locks the volume against everybody.
func (o *Delete) Locks() []record.Object { return []record.Object{o.lock(record.ModeDelete)} }

// Destroys the volume.
func (*Delete) Destroys() bool { return true }

// Settle finds out whether it is gone.
func (o *Delete) Settle() *Settle { return &Settle{Volume: o.Volume, Deleted: true} }

// Task is delete.
func (o *Delete) Task() Task {
	return Task{
		Name:        "delete",
		Usage:       "delete a volume",
		Description: "A volume that is in use is refused.",
		Example:     "--target old.raw --wipe zero --yes",
		Flags: append(o.Volume.flags("target"), o.Volume.known(),
			text("wipe", &o.Algorithm, "overwrite it first: `"+strings.Join(Algorithms, "|")+"`"),
			acceptLimits(&o.AcceptLimits),
		),
		Asks: true,
	}
}
