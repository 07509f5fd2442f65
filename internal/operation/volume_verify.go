package operation

import "storaged/internal/record"

// Verify reads a volume and gives its checksum.
type Verify struct {
	Terms
	Volume
	Capacity int64  `json:"capacity,omitempty"` // bytes to be read
	Checksum string `json:"checksum,omitempty"` // algorithm, or what the content must have; "": what is recorded
	// Recorded is the checksum that the catalogue has when the job begins, and
	// SummedNS when the volume was last changed then, in ns since 1970.
	Recorded string `json:"-"`
	SummedNS int64  `json:"-"`
	Resume   bool   `json:"-"`
}

var _ Operation = (*Verify)(nil)

// NewVerify gives one with the defaults of its task.
func NewVerify() *Verify { return &Verify{Volume: Volume{Type: defaultType}} }

// Kind is volume.verify.
func (*Verify) Kind() record.Kind { return record.VolumeVerify }

// Class: it takes as long as there is to read.
func (*Verify) Class() record.Class { return record.Async }

// Locks: others may read it too.
func (o *Verify) Locks() []record.Object { return []record.Object{o.lock(record.ModeRead)} }

// Destroys nothing.
func (*Verify) Destroys() bool { return false }

// Settle: nothing was touched.
func (*Verify) Settle() *Settle { return nil }

// Task is verify.
func (o *Verify) Task() Task {
	sum := &o.Checksum
	if o.Checksum == "" && o.Recorded != "" {
		sum = &o.Recorded
	}
	return Task{
		Name:  "verify",
		Usage: "read a volume and give its checksum",
		Description: "A content that differs from --checksum is exit code 10. Holes are not read: crc32c leaps over them,\n" +
			"sha256 takes as long for them as for data that is in memory.",
		Example: "--target base.raw --checksum sha256:9f86d081884c7d65…",
		Flags: append(o.Volume.flags("target"), o.Volume.known(),
			text("checksum", sum, "give the checksum by sha256 or crc32c, default the former; with :HEX fail if it is another: `ALGORITHM[:HEX]`"),
			Flag{Name: "recorded-change", Usage: "--checksum counts only if the volume was last changed then, `NANOSECONDS` since 1970", value: (*number)(&o.SummedNS)},
			resume(&o.Resume),
		),
	}
}
