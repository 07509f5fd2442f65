package operation

import (
	"strings"

	"storaged/internal/record"
)

// Delete deletes a volume, and wipes it before if that is asked for.
type Delete struct {
	Terms
	Volume
	Format       string `json:"format,omitempty"`
	Capacity     int64  `json:"capacity,omitempty"`  // bytes to be overwritten
	Algorithm    string `json:"algorithm,omitempty"` // of the wipe; "": none
	AcceptLimits bool   `json:"accept_limits,omitempty"`
	MissingOK    bool   `json:"missing_ok,omitempty"` // it may be gone
}

var _ interface {
	Operation
	Fills
} = (*Delete)(nil)

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

// Effect: the volume goes.
func (*Delete) Effect() Effect { return Removes }

// Allowed refuses a volume that has snapshots, and to wipe one whose content lies
// elsewhere.
func (o *Delete) Allowed(k Known) error {
	if err := k.unfrozen(); err != nil || !o.Wipes() {
		return err
	}
	return k.erasable()
}

// Tolerates that it is gone.
func (o *Delete) Tolerates() record.Code {
	if !o.MissingOK {
		return ""
	}
	return record.NotFound
}

// Done if it is gone.
func (*Delete) Done(is Known) (bool, error) { return is.Volume.Name == "", nil }

// Displaces the volume.
func (*Delete) Displaces() bool { return true }

// Wipes it before, if that is asked for.
func (o *Delete) Wipes() bool { return o.Algorithm != "" }

// Overwrites the holes too, by some algorithms.
func (o *Delete) Overwrites() (length *int64, ok bool) { return nil, fillsHoles(o.Format, o.Algorithm) }

// Smaller is to leave the holes alone.
func (*Delete) Smaller() record.Hint { return zeroInstead() }

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

// DeleteRequest asks to delete a volume; it comes as the query of a DELETE.
type DeleteRequest struct {
	Wipe         string `json:"wipe,omitempty"`          // algorithm to wipe with first
	AcceptLimits bool   `json:"accept_limits,omitempty"` // of the wipe
	Missing
	JobOptions
}

// Check refuses to accept limits of nothing.
func (r *DeleteRequest) Check() error {
	if r.AcceptLimits && r.Wipe == "" {
		return record.Errorf(record.Invalid, "accept_limits is about a wipe, and there is to be none")
	}
	return r.JobOptions.Check()
}

// Plan refuses an algorithm that the pool's type has not.
func (r *DeleteRequest) Plan(k Known) (Operation, error) {
	o := &Delete{Volume: k.On, Format: k.Volume.Format, Capacity: k.Volume.Capacity, Algorithm: r.Wipe, AcceptLimits: r.AcceptLimits, MissingOK: r.MissingOK}
	if r.Wipe == "" {
		return o, nil
	}
	return o, k.wipeable(r.Wipe)
}
