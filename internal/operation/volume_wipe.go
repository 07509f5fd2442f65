package operation

import (
	"cmp"
	"slices"
	"strings"

	"storaged/internal/record"
)

// Wipe overwrites a volume's content.
type Wipe struct {
	Terms
	Volume
	Image
	Content      bool   `json:"content,omitempty"` // of an image that, and not its file
	Format       string `json:"format,omitempty"`
	Capacity     int64  `json:"capacity,omitempty"` // bytes to be overwritten
	Algorithm    string `json:"algorithm"`
	Verify       bool   `json:"verify,omitempty"`
	AcceptLimits bool   `json:"accept_limits,omitempty"` // what certainly cannot be reached is accepted
	Resume       bool   `json:"-"`
}

var _ interface {
	Operation
	Fills
} = (*Wipe)(nil)

// NewWipe gives one with the defaults of its task.
func NewWipe() *Wipe { return &Wipe{Volume: Volume{Type: defaultType}, Algorithm: "zero"} }

// Kind is volume.wipe.
func (*Wipe) Kind() record.Kind { return record.VolumeWipe }

// Class: it takes as long as there is to overwrite.
func (*Wipe) Class() record.Class { return record.Async }

// Locks the volume against everybody.
func (o *Wipe) Locks() []record.Object {
	return append([]record.Object{o.lock(record.ModeWrite)}, o.Chain.locks()...)
}

// Destroys the content.
func (*Wipe) Destroys() bool { return true }

// Settle looks what it is now.
func (o *Wipe) Settle() *Settle { return &Settle{Volume: o.Volume} }

// Effect: the content changes in place.
func (*Wipe) Effect() Effect { return Changes }

// Allowed refuses a volume whose content lies elsewhere, or is in snapshots too.
func (o *Wipe) Allowed(k Known) error {
	if o.opens() {
		return cmp.Or(k.unfrozen(), k.writable())
	}
	return cmp.Or(k.unfrozen(), k.erasable())
}

// opens reports whether the volume is opened as an image.
func (o *Wipe) opens() bool { return o.Content && record.IsImage(o.Format) }

// Displaces all that is there.
func (*Wipe) Displaces() bool { return true }

// Wipes it. An image of which the content is wiped stays one.
func (o *Wipe) Wipes() bool { return !o.opens() }

// Moves what is overwritten.
func (o *Wipe) Moves() (bytes int64, bounds bool) { return o.Capacity, true }

// Overwrites the holes too, by some algorithms.
func (o *Wipe) Overwrites() (length *int64, ok bool) { return nil, fillsHoles(o.Format, o.Algorithm) }

// Smaller is to leave the holes alone.
func (*Wipe) Smaller() record.Hint { return zeroInstead() }

// fillsHoles reports whether a wipe writes to the holes of a volume. Of other
// formats nobody here knows how long the file is.
func fillsHoles(format, algorithm string) bool {
	return format == record.FormatRaw && algorithm != "" && algorithm != "zero" && algorithm != "trim"
}

func zeroInstead() record.Hint {
	return record.Hintf("free some, or wipe by zero, which leaves holes alone: there is nothing in them")
}

// Task is wipe.
func (o *Wipe) Task() Task {
	return Task{
		Name:  "wipe",
		Usage: "overwrite the content of a volume",
		Description: "The volume keeps its name and size. Where old content would certainly stay readable\n" +
			"(shared blocks, a file system that writes elsewhere) it is refused, unless --accept-limits.\n" +
			"What may keep old content, such as flash, is named with the result. trim overwrites nothing:\n" +
			"it gives the blocks back, and the volume reads as zeros. An image is no image after that, but with\n" +
			"--content: then only what is stored of what a guest sees is overwritten.",
		Example: "--target old.raw --verify --yes",
		Flags: append(append(o.Volume.flags("target"), o.Image.flags()...), o.Volume.known(), imageFormat(&o.Format),
			onOff("content", &o.Content, "of an image only the content, and not its file"),
			text("algorithm", &o.Algorithm, "how: `"+strings.Join(Algorithms, "|")+"`"),
			onOff("verify", &o.Verify, "read it back from the device"),
			acceptLimits(&o.AcceptLimits), resume(&o.Resume),
		),
		Asks: true,
	}
}

// WipeRequest asks to overwrite a volume's content.
type WipeRequest struct {
	Algorithm    string `json:"algorithm,omitempty"` // default zero
	Verify       bool   `json:"verify,omitempty"`
	AcceptLimits bool   `json:"accept_limits,omitempty"`
	Content      bool   `json:"content,omitempty"` // of an image only that, which stays one
	JobOptions
}

// Fill puts in what it leaves out.
func (r *WipeRequest) Fill() {
	r.JobOptions.Fill()
	r.Algorithm = cmp.Or(r.Algorithm, "zero")
}

// Plan refuses an algorithm that the pool's type has not.
func (r *WipeRequest) Plan(k Known) (Operation, error) {
	o := &Wipe{
		Volume: k.On, Format: k.Volume.Format, Capacity: k.Volume.Capacity,
		Algorithm: r.Algorithm, Verify: r.Verify, AcceptLimits: r.AcceptLimits, Content: r.Content,
	}
	err := k.wipeable(r.Algorithm)
	if err == nil && o.opens() {
		o.Chain, err = k.chain(overwriting(r.Algorithm))
	}
	return o, err
}

// overwriting is what a format must be able to have done to its content.
func overwriting(algorithm string) string {
	if algorithm == "trim" {
		return record.VerbTrim
	}
	return record.VerbWrite
}

func (k Known) wipeable(algorithm string) error {
	if slices.Contains(k.Can.Algorithms, algorithm) {
		return nil
	}
	return record.Errorf(record.Unsupported, "pools of type %s cannot wipe by algorithm %q; they can by %s",
		k.Pool.Type, algorithm, record.List(k.Can.Algorithms, 20))
}

// Algorithms are those of package wipe, of which this package knows nothing; a
// test of the helper holds the two together. trim gives the blocks back.
var Algorithms = []string{"zero", "random", "nnsa", "dod", "bsi", "gutmann", "schneier", "pfitzner7", "pfitzner33", "trim"}
