package operation

import (
	"strings"

	"storaged/internal/record"
)

// Wipe overwrites a volume's content.
type Wipe struct {
	Terms
	Volume
	Capacity     int64  `json:"capacity,omitempty"` // bytes to be overwritten
	Algorithm    string `json:"algorithm"`
	Verify       bool   `json:"verify,omitempty"`
	AcceptLimits bool   `json:"accept_limits,omitempty"` // what certainly cannot be reached is accepted
	Resume       bool   `json:"-"`
}

var _ Operation = (*Wipe)(nil)

// NewWipe gives one with the defaults of its task.
func NewWipe() *Wipe { return &Wipe{Volume: Volume{Type: defaultType}, Algorithm: "zero"} }

// Kind is volume.wipe.
func (*Wipe) Kind() record.Kind { return record.VolumeWipe }

// Class: it takes as long as there is to overwrite.
func (*Wipe) Class() record.Class { return record.Async }

// Locks the volume against everybody.
func (o *Wipe) Locks() []record.Object { return []record.Object{o.lock(record.ModeWrite)} }

// Destroys the content.
func (*Wipe) Destroys() bool { return true }

// Settle looks what it is now.
func (o *Wipe) Settle() *Settle { return &Settle{Volume: o.Volume} }

// Task is wipe.
func (o *Wipe) Task() Task {
	return Task{
		Name:  "wipe",
		Usage: "overwrite the content of a volume",
		Description: "The volume keeps its name and size. Where old content would certainly stay readable\n" +
			"(shared blocks, a file system that writes elsewhere) it is refused, unless --accept-limits.\n" +
			"What may keep old content, such as flash, is told with the result. trim overwrites nothing:\n" +
			"it gives the blocks back, and the volume reads as zeros.",
		Example: "--target old.raw --verify --yes",
		Flags: append(o.Volume.flags("target"), o.Volume.known(),
			text("algorithm", &o.Algorithm, "how: `"+strings.Join(Algorithms, "|")+"`"),
			onOff("verify", &o.Verify, "read it back from the device"),
			acceptLimits(&o.AcceptLimits), resume(&o.Resume),
		),
		Asks: true,
	}
}

// Algorithms are those of package wipe, of which this package knows nothing; a
// test of the helper holds the two together. trim gives the blocks
// back.
var Algorithms = []string{"zero", "random", "nnsa", "dod", "bsi", "gutmann", "schneier", "pfitzner7", "pfitzner33", "trim"}
