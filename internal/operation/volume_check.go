package operation

import (
	"cmp"
	"slices"

	"storaged/internal/record"
)

// Check checks the tables of an image, and repairs them.
type Check struct {
	Terms
	Volume
	Image
	Format string `json:"format"`
	Repair string `json:"repair,omitempty"` // record.RepairLeaks or record.RepairAll; "": nothing
	Summed
}

var _ interface {
	Operation
	Comparing
} = (*Check)(nil)

// NewCheck gives one with the defaults of its task.
func NewCheck() *Check {
	return &Check{Volume: Volume{Type: defaultType}, Format: record.FormatsChecked[0]}
}

// Kind is volume.check.
func (*Check) Kind() record.Kind { return record.VolumeCheck }

// Class: it reads all tables.
func (*Check) Class() record.Class { return record.Async }

// Locks: a repair has the image to itself.
func (o *Check) Locks() []record.Object {
	mode := record.ModeRead
	if o.Repair != "" {
		mode = record.ModeWrite
	}
	return append([]record.Object{o.lock(mode)}, o.Chain.locks()...)
}

// Destroys what a repair of all cannot make sense of.
func (o *Check) Destroys() bool { return o.Repair == record.RepairAll }

// Settle looks how much it has allocated now.
func (o *Check) Settle() *Settle { return &Settle{Volume: o.Volume} }

// Effect: what is repaired is how the content is kept.
func (o *Check) Effect() Effect {
	if o.Repair == "" {
		return Reads
	}
	return Arranges
}

// Allowed refuses to repair an image whose content lies in other files.
func (o *Check) Allowed(k Known) error {
	if o.Repair != "" {
		return k.writable()
	}
	return nil
}

// Compares gives the checksum that it may give back.
func (o *Check) Compares() *Summed { return &o.Summed }

// Sums says what the checksum is of: that of the file changes with a repair.
func (o *Check) Sums() string { return record.AsRaw }

// Task is check.
func (o *Check) Task() Task {
	return Task{
		Name:  "check",
		Usage: "check the tables of an image, and repair them",
		Description: "The content is not read. What the image stands on is not looked at. Corruption that is found and\n" +
			"stays is exit code 10. --repair leaks gives back what is allocated and not used, which changes\n" +
			"no content; all repairs corrupt tables too, as far as they let, and may lose content by that. It\n" +
			"makes a file that is cut off as long as its tables have it: what is lost reads as zeros then.",
		Example: "--target vm1.qcow2 --format qcow2 --repair leaks",
		Flags: append(append(o.Volume.flags("target"), o.Image.flags()...), o.Volume.known(), imageFormat(&o.Format),
			text("repair", &o.Repair, "repair what is found: `leaks|all`"),
			text("checksum", &o.Recorded, "what the content is known to have; the result names it again if nothing corrupt was found: `ALGORITHM:HEX`"),
			Flag{Name: "recorded-change", Usage: "--checksum counts only if the volume was last changed then, `NANOSECONDS` since 1970", value: (*number)(&o.SummedNS)},
		),
	}
}

// CheckRequest asks to check the tables of an image, and to repair them.
type CheckRequest struct {
	Repair string `json:"repair,omitempty"` // record.RepairLeaks or record.RepairAll; "": nothing
	JobOptions
}

// Check refuses what is no repair.
func (r *CheckRequest) Check() error {
	return cmp.Or(record.OneOf("repair", r.Repair, "", record.RepairLeaks, record.RepairAll), r.JobOptions.Check())
}

// Plan refuses what has no tables that can be checked.
func (r *CheckRequest) Plan(k Known) (Operation, error) {
	if !slices.Contains(record.FormatsChecked, k.Volume.Format) {
		return nil, record.Errorf(record.Unsupported, "volume %s is in format %s, which has no check; %s have one", k.quoted(),
			cmp.Or(k.Volume.Format, "unknown"), record.List(record.FormatsChecked, len(record.FormatsChecked))).
			WithHint("%s reads all of its content", record.Do("volume.verify", k.name()))
	}
	if k.Cut && k.contained("", nil) == nil {
		return &Check{Volume: k.On, Image: Image{Chain: Chain{Of: ChainOfTables, Secret: k.Volume.Secret}}, Format: k.Volume.Format, Repair: r.Repair}, nil
	}
	chain, err := k.chain(record.VerbRead)
	return &Check{Volume: k.On, Image: Image{Chain: chain}, Format: k.Volume.Format, Repair: r.Repair}, err
}
