package operation

import (
	"cmp"

	"storaged/internal/record"
)

// Move gives a volume another name, in its pool or another.
type Move struct {
	Terms
	Volume // as it is called before
	Into
	Homes
	Format     string `json:"format,omitempty"`
	Allocation int64  `json:"allocation,omitempty"` // bytes that a copy may need
	Promise    *int64 `json:"promise,omitempty"`    // bytes of a copy that shall have blocks; nil: as comes
}

var _ interface {
	Operation
	Making
	Grows
} = (*Move)(nil)

// NewMove gives one with the defaults of its task.
func NewMove() *Move { return &Move{Volume: Volume{Type: defaultType}, Into: newInto()} }

// Kind is volume.move.
func (*Move) Kind() record.Kind { return record.VolumeMove }

// Class: it may have to be a copy.
func (*Move) Class() record.Class { return record.Async }

// Locks: the source goes away.
func (o *Move) Locks() []record.Object {
	return []record.Object{o.lock(record.ModeDelete), o.Target.lock(record.ModeWrite)}
}

// Settle also finds out what became of the source.
func (o *Move) Settle() *Settle { return &Settle{Volume: Volume(o.Target), Source: &o.Volume} }

// Effect: a volume gets another name.
func (*Move) Effect() Effect { return Transfers }

// Allowed refuses a volume that has snapshots, and a move after which it would not
// find what it stands on.
func (o *Move) Allowed(k Known) error { return cmp.Or(k.unfrozen(), k.portable(o.Target.Pool)) }

// StandsIn is of interest if it is an image.
func (o *Move) StandsIn(dirs []string) { o.set(o.Format, dirs) }

// Displaces the volume from its path.
func (*Move) Displaces() bool { return true }

// Moves what a copy has allocated.
func (o *Move) Moves() (bytes int64, bounds bool) { return o.Allocation, true }

// Made is how it is listed.
func (o *Move) Made() Made { return Made{Format: o.Format, Promised: deref(o.Promise)} }

// Needs what a copy has allocated.
func (o *Move) Needs() (bytes int64, unless string) { return o.Allocation, "" }

// Smaller is to put it elsewhere.
func (*Move) Smaller() record.Hint { return elsewhere() }

// Task is move.
func (o *Move) Task() Task {
	return Task{
		Name:  "move",
		Usage: "give a volume another name, in its pool or another",
		Description: "On one file system it is renamed, to another it is copied, and removed when the copy is\n" +
			"complete and durable. The copy has owner, permissions, ACL, attributes and times of the volume.\n" +
			"Nothing is replaced. A volume that is in use is refused.",
		Example: "--source /var/lib/images/vm1.raw --target /srv/images/vm1.raw",
		Flags:   append(append(o.Target.flags(), o.Volume.flags("source")...), o.Volume.known(), imageFormat(&o.Format), o.among(), promised(&o.Promise)),
	}
}

// MoveRequest asks for another name for a volume, in Pool, default its own. An
// empty Name is the one that it has.
type MoveRequest struct {
	Pool string `json:"pool,omitempty"`
	Name string `json:"name,omitempty"`
	JobOptions
}

var _ interface {
	Request
	Sender
} = (*MoveRequest)(nil)

// Goes: the name that it gets.
func (r *MoveRequest) Goes() (pool, volume string) { return r.Pool, r.Name }

// Check refuses bad names.
func (r *MoveRequest) Check() error {
	if r.Name != "" {
		if err := checkNewName(r.Name); err != nil {
			return err
		}
	}
	return cmp.Or(checkPool("pool", r.Pool), r.JobOptions.Check())
}

// Plan: on one file system a move needs no room.
func (r *MoveRequest) Plan(k Known) (Operation, error) {
	o := &Move{Volume: k.On, Into: Into{k.Into}, Format: k.Volume.Format}
	if k.Promised > 0 {
		o.Promise = &k.Promised
	}
	if !k.Near {
		o.Allocation = max(k.Volume.Allocation, k.Promised)
	}
	return o, nil
}
