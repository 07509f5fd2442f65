package operation

import (
	"fmt"
	"path/filepath"
	"slices"
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
	// WithSnapshots says that Snapshots go too, each before those that it stands on.
	WithSnapshots bool    `json:"with_snapshots,omitempty"`
	Snapshots     []Layer `json:"snapshots,omitempty"`
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

// Locks the volume, and what goes with it, against everybody.
func (o *Delete) Locks() []record.Object {
	all := []record.Object{o.lock(record.ModeDelete)}
	for _, s := range o.Snapshots {
		all = append(all, s.lock(record.ModeDelete))
	}
	return all
}

// Destroys the volume.
func (*Delete) Destroys() bool { return true }

// Settle finds out whether it is gone, and has its snapshots go too then.
func (o *Delete) Settle() *Settle {
	s := &Settle{Volume: o.Volume, Deleted: true}
	for _, l := range o.Snapshots {
		s.With = append(s.With, filepath.Base(l.Path))
	}
	return s
}

// Warnings name what goes with it.
func (o *Delete) Warnings(record.Volume) []string {
	if len(o.Snapshots) == 0 {
		return nil
	}
	names := make([]string, len(o.Snapshots))
	for i, s := range o.Snapshots {
		names[i] = record.Shown(s.Name)
	}
	return []string{fmt.Sprintf("%s of the volume %s with it: %s", record.Plural(len(names), "snapshot"), goes(len(names)), strings.Join(names, ", "))}
}

func goes(n int) string {
	if n == 1 {
		return "goes"
	}
	return "go"
}

// Effect: the volume goes.
func (*Delete) Effect() Effect { return Removes }

// Allowed refuses a volume that has snapshots, and to wipe one whose content lies
// elsewhere.
func (o *Delete) Allowed(k Known) error {
	if o.WithSnapshots {
		return o.all(k)
	}
	err := k.unfrozenBut(record.Hintf("; %s deletes the volume and all of them, and needs no room", record.Do("").With("with_snapshots")))
	if err != nil || !o.Wipes() {
		return err
	}
	return k.erasable()
}

// all refuses a volume that has come to have other snapshots than are to go.
func (o *Delete) all(k Known) error {
	for _, name := range k.Volume.Snapshots {
		file := record.SnapshotFile(k.Volume.Name, name)
		if !slices.ContainsFunc(o.Snapshots, func(s Layer) bool { return s.Name == file }) {
			return record.Errorf(record.Changed, "volume %s has a snapshot %q, and had not when its deletion was asked for", k.quoted(), name).
				WithHint("ask again")
		}
	}
	return nil
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
			Flag{Name: "with-snapshot", Usage: "a snapshot that goes with it, a `LAYER` as JSON; may be repeated, each before those that it stands on", value: (*layers)(&o.Snapshots)},
		),
		Asks: true,
	}
}

// DeleteRequest asks to delete a volume; it comes as the query of a DELETE.
type DeleteRequest struct {
	Wipe         string `json:"wipe,omitempty"`          // algorithm to wipe with first
	AcceptLimits bool   `json:"accept_limits,omitempty"` // of the wipe
	// WithSnapshots has its snapshots go with it.
	WithSnapshots bool `json:"with_snapshots,omitempty"`
	Missing
	JobOptions
}

// Check refuses to accept limits of nothing.
func (r *DeleteRequest) Check() error {
	if r.AcceptLimits && r.Wipe == "" {
		return record.Errorf(record.Invalid, "accept_limits is about a wipe, and there is to be none")
	}
	if r.WithSnapshots && r.Wipe != "" {
		return record.Errorf(record.Unsupported, "the snapshots of a volume are not wiped").
			WithHint("delete them first, each by itself; then the volume has all that is to be wiped")
	}
	return r.JobOptions.Check()
}

// Plan refuses an algorithm that the pool's type has not.
func (r *DeleteRequest) Plan(k Known) (Operation, error) {
	o := &Delete{Volume: k.On, Format: k.Volume.Format, Capacity: k.Volume.Capacity, Algorithm: r.Wipe, AcceptLimits: r.AcceptLimits, MissingOK: r.MissingOK}
	switch {
	case r.WithSnapshots:
		var err error
		o.WithSnapshots = true
		o.Snapshots, err = k.Snapshots()
		return o, err
	case r.Wipe == "":
		return o, nil
	}
	return o, k.wipeable(r.Wipe)
}
