package operation

import "storaged/internal/record"

// Move gives a volume another name, in its pool or another.
type Move struct {
	Terms
	Volume // as it is called before
	Into
	Format     string `json:"format,omitempty"`
	Allocation int64  `json:"allocation,omitempty"` // bytes that a copy may need
	Promise    *int64 `json:"promise,omitempty"`    // bytes of a copy that shall have blocks; nil: as comes
}

var _ Operation = (*Move)(nil)

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

// Destroys nothing: the content goes along.
func (*Move) Destroys() bool { return false }

// Settle also finds out what became of the source.
func (o *Move) Settle() *Settle { return &Settle{Volume: Volume(o.Target), Source: &o.Volume} }

// Task is move.
func (o *Move) Task() Task {
	return Task{
		Name:  "move",
		Usage: "give a volume another name, in its pool or another",
		Description: "On one file system it is renamed, to another it is copied, and removed when the copy is\n" +
			"complete and durable. The copy has owner, permissions, ACL, attributes and times of the volume.\n" +
			"Nothing is replaced. A volume that is in use is refused.",
		Example: "--source /var/lib/images/vm1.raw --target /srv/images/vm1.raw",
		Flags:   append(append(o.Target.flags(), o.Volume.flags("source")...), o.Volume.known(), imageFormat(&o.Format), promised(&o.Promise)),
	}
}
