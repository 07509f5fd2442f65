package operation

import "storaged/internal/record"

// Trim gives back the blocks of what reads as zeros.
type Trim struct {
	Terms
	Volume
	Image
	Format           string `json:"format,omitempty"`
	Capacity         int64  `json:"capacity,omitempty"`           // bytes to be read
	GiveUpAllocation bool   `json:"give_up_allocation,omitempty"` // what is reserved goes too
	Summed
	Resume bool `json:"-"`
}

var _ interface {
	Operation
	Comparing
} = (*Trim)(nil)

// NewTrim gives one with the defaults of its task.
func NewTrim() *Trim { return &Trim{Volume: Volume{Type: defaultType}} }

// Kind is volume.trim.
func (*Trim) Kind() record.Kind { return record.VolumeTrim }

// Class: it takes as long as there is to read.
func (*Trim) Class() record.Class { return record.Async }

// Locks the volume against everybody: who writes what was just read as zeros
// would lose it.
func (o *Trim) Locks() []record.Object {
	return append([]record.Object{o.lock(record.ModeWrite)}, o.Chain.locks()...)
}

// Settle looks how much it has allocated now.
func (o *Trim) Settle() *Settle { return &Settle{Volume: o.Volume} }

// Effect: the content stays the same.
func (*Trim) Effect() Effect { return Arranges }

// Allowed refuses a volume that was promised to have blocks, if it can lose them, or whose
// content lies in other files.
func (o *Trim) Allowed(k Known) error {
	if k.Promised > 0 && k.Can.Sparse && !o.GiveUpAllocation {
		return record.Errorf(record.WrongState, "volume %s is to have %s allocated: what a trim gives back of that might not be there when it is needed",
			k.quoted(), both(k.Promised)).WithHint("%s does it", record.Do("").With("give-up-allocation"))
	}
	return k.writable()
}

// Relies on the content.
func (*Trim) Relies() bool { return true }

// Moves what is read.
func (o *Trim) Moves() (bytes int64, bounds bool) { return o.Capacity, true }

// Compares gives the checksum that it may give back.
func (o *Trim) Compares() *Summed { return &o.Summed }

// Sums says what checksum stays: the file of an image changes.
func (*Trim) Sums() string { return record.AsRaw }

// Task is trim.
func (o *Trim) Task() Task {
	return Task{
		Name:  "trim",
		Usage: "give back the blocks of what reads as zeros in a volume",
		Description: "The content stays the same, at any time: a volume that was trimmed half-way is complete.\n" +
			"Of an image in a format that can tell what is not used, that is not stored any more; the zeros in the\n" +
			"file of any other stay, as holes. Where space is reserved for it (blocks that nothing was written to) it is refused, unless\n" +
			"--give-up-allocation.",
		Example: "--target vm1.raw",
		Flags: append(append(o.Volume.flags("target"), o.Image.flags()...), imageFormat(&o.Format),
			onOff("give-up-allocation", &o.GiveUpAllocation, "give back what is reserved for it, too"),
			text("checksum", &o.Recorded, "what the content is known to have; the result names it again if nobody else has changed the volume: `ALGORITHM:HEX`"),
			Flag{Name: "recorded-change", Usage: "--checksum counts only if the volume was last changed then, `NANOSECONDS` since 1970", value: (*number)(&o.SummedNS)},
			resume(&o.Resume),
		),
	}
}

// TrimRequest asks to give back the blocks of what reads as zeros.
type TrimRequest struct {
	GiveUpAllocation bool `json:"give_up_allocation,omitempty"`
	JobOptions
}

// Plan makes a trim of the whole volume.
func (r *TrimRequest) Plan(k Known) (Operation, error) {
	o := &Trim{Volume: k.On, Format: k.Volume.Format, Capacity: k.Volume.Capacity, GiveUpAllocation: r.GiveUpAllocation}
	if !record.IsImage(o.Format) || !record.FormatCan(o.Format, record.VerbTrim) {
		return o, nil
	}
	var err error
	o.Chain, err = k.chain(record.VerbTrim)
	return o, err
}
