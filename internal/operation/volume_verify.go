package operation

import (
	"cmp"

	"storaged/internal/record"
)

// Verify reads a volume and gives its checksum.
type Verify struct {
	Terms
	Volume
	View
	Format   string `json:"format,omitempty"`
	Capacity int64  `json:"capacity,omitempty"` // bytes to be read
	Checksum string `json:"checksum,omitempty"` // algorithm, or what the content must have; "": what is recorded
	Summed
	Resume bool `json:"-"`
}

var _ interface {
	Operation
	Comparing
} = (*Verify)(nil)

// NewVerify gives one with the defaults of its task.
func NewVerify() *Verify {
	return &Verify{Volume: Volume{Type: defaultType}, View: View{As: record.AsRaw}}
}

// Kind is volume.verify.
func (*Verify) Kind() record.Kind { return record.VolumeVerify }

// Class: it takes as long as there is to read.
func (*Verify) Class() record.Class { return record.Async }

// Locks: others may read it too.
func (o *Verify) Locks() []record.Object {
	return append([]record.Object{o.lock(record.ModeRead)}, o.Chain.locks()...)
}

// Effect: it reads.
func (*Verify) Effect() Effect { return Reads }

// Relies on the content.
func (*Verify) Relies() bool { return true }

// Moves what is read.
func (o *Verify) Moves() (bytes int64, bounds bool) { return o.Capacity, true }

// Compares gives the checksum that it compares with; nil where the request says
// another.
func (o *Verify) Compares() *Summed {
	if o.Checksum != "" {
		return nil
	}
	return &o.Summed
}

// Sums says what the checksum is of.
func (o *Verify) Sums() string { return o.As }

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
			"sha256 takes as long for them as for data that is in memory. The checksum is of what a guest sees:\n" +
			"the same content has the same in every --format.",
		Example: "--target base.raw --checksum sha256:9f86d081884c7d65…",
		Flags: append(append(o.Volume.flags("target"), o.View.flags()...), o.Volume.known(), imageFormat(&o.Format),
			text("checksum", sum, "give the checksum by sha256 or crc32c, default the former; with :HEX fail if it is another: `ALGORITHM[:HEX]`"),
			Flag{Name: "recorded-change", Usage: "--checksum counts only if the volume was last changed then, `NANOSECONDS` since 1970", value: (*number)(&o.SummedNS)},
			resume(&o.Resume),
		),
	}
}

// VerifyRequest asks to read a volume and give its checksum. Checksum is the
// algorithm, sha256 or crc32c, alone, or with a colon and hexadecimal digits
// that the content must have. Empty, the checksum must be the recorded one, if
// there is one that is not out of date.
type VerifyRequest struct {
	Checksum string `json:"checksum,omitempty"`
	As       string `json:"as,omitempty"` // AsRaw, which is the default, or AsFile
	JobOptions
}

// Fill puts in what it leaves out.
func (r *VerifyRequest) Fill() {
	r.JobOptions.Fill()
	r.As = cmp.Or(r.As, record.AsRaw)
}

// Check refuses what is no checksum.
func (r *VerifyRequest) Check() error {
	if r.Checksum != "" {
		if _, _, err := record.ParseContentChecksum(r.Checksum); err != nil {
			return record.Errorf(record.Invalid, `field "checksum": %v`, err)
		}
	}
	return cmp.Or(checkAs(r.As), r.JobOptions.Check())
}

// Plan reads the whole volume.
func (r *VerifyRequest) Plan(k Known) (Operation, error) {
	sum := r.Checksum
	if algorithm, want, err := record.ParseContentChecksum(sum); err == nil {
		sum = cmp.Or(want, algorithm)
	}
	view, err := k.view(r.As, record.VerbRead)
	return &Verify{Volume: k.On, View: view, Format: k.Volume.Format, Capacity: k.Volume.Capacity, Checksum: sum}, err
}
