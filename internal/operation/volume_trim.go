package operation

import "storaged/internal/record"

// Trim gives back the blocks of what reads as zeros.
type Trim struct {
	Terms
	Volume
	Capacity         int64 `json:"capacity,omitempty"`           // bytes to be read
	GiveUpAllocation bool  `json:"give_up_allocation,omitempty"` // what is reserved goes too
	// Recorded is the checksum that the catalogue has when the job begins, and
	// SummedNS when the volume was last changed then, in ns since 1970.
	Recorded string `json:"-"`
	SummedNS int64  `json:"-"`
	Resume   bool   `json:"-"`
}

var _ Operation = (*Trim)(nil)

// NewTrim gives one with the defaults of its task.
func NewTrim() *Trim { return &Trim{Volume: Volume{Type: defaultType}} }

// Kind is volume.trim.
func (*Trim) Kind() record.Kind { return record.VolumeTrim }

// Class: it takes as long as there is to read.
func (*Trim) Class() record.Class { return record.Async }

// Locks the volume against everybody: who writes what was just read as zeros
// would lose it.
func (o *Trim) Locks() []record.Object { return []record.Object{o.lock(record.ModeWrite)} }

// Destroys nothing: the volume reads the same before and after.
func (*Trim) Destroys() bool { return false }

// Settle looks how much it has allocated now.
func (o *Trim) Settle() *Settle { return &Settle{Volume: o.Volume} }

// Task is trim.
func (o *Trim) Task() Task {
	return Task{
		Name:  "trim",
		Usage: "give back the blocks of what reads as zeros in a volume",
		Description: "The content stays the same, at any time: a volume that was trimmed half-way is whole.\n" +
			"Where space is reserved for it (blocks that nothing was written to) it is refused, unless\n" +
			"--give-up-allocation.",
		Example: "--target vm1.raw",
		Flags: append(o.Volume.flags("target"),
			onOff("give-up-allocation", &o.GiveUpAllocation, "give back what is reserved for it, too"),
			text("checksum", &o.Recorded, "what the content is known to have; the result names it again if nobody else has changed the volume: `ALGORITHM:HEX`"),
			Flag{Name: "recorded-change", Usage: "--checksum counts only if the volume was last changed then, `NANOSECONDS` since 1970", value: (*number)(&o.SummedNS)},
			resume(&o.Resume),
		),
	}
}
