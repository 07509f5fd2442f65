package operation

import "storaged/internal/record"

// Resize changes a volume's capacity.
type Resize struct {
	Terms
	Volume
	Image
	Format     string `json:"format,omitempty"`
	Capacity   int64  `json:"capacity,omitempty"`   // bytes that it shall hold
	Allocation int64  `json:"allocation,omitempty"` // bytes that it may need
	Shrink     bool   `json:"shrink,omitempty"`
	Allocate   bool   `json:"allocate,omitempty"` // what is new gets blocks
}

var _ interface {
	Operation
	Grows
} = (*Resize)(nil)

// NewResize gives one with the defaults of its task.
func NewResize() *Resize { return &Resize{Volume: Volume{Type: defaultType}} }

// Kind is volume.resize.
func (*Resize) Kind() record.Kind { return record.VolumeResize }

// Class: without blocks to find it changes a number.
func (o *Resize) Class() record.Class {
	if o.Allocate || o.Allocation > 0 {
		return record.Async
	}
	return record.Normal
}

// Locks: a volume that only grows may be read meanwhile, but for an image, of which
// the file's beginning changes then too.
func (o *Resize) Locks() []record.Object {
	if o.Shrink || record.IsImage(o.Format) {
		return append([]record.Object{o.lock(record.ModeWrite)}, o.Chain.locks()...)
	}
	return []record.Object{o.lock(record.ModeGrow)}
}

// Destroys what lies behind the new end.
func (o *Resize) Destroys() bool { return o.Shrink }

// Settle looks what it is now.
func (o *Resize) Settle() *Settle { return &Settle{Volume: o.Volume, Format: o.Format} }

// Effect: the content changes in place.
func (*Resize) Effect() Effect { return Changes }

// Allowed refuses an image whose content lies in other files.
func (*Resize) Allowed(k Known) error { return k.writable() }

// Relies on what is there: it is not made complete.
func (*Resize) Relies() bool { return true }

// Displaces what is cut off.
func (o *Resize) Displaces() bool { return o.Shrink }

// Moves what is allocated.
func (o *Resize) Moves() (bytes int64, bounds bool) { return o.Allocation, true }

// Needs what is allocated.
func (o *Resize) Needs() (bytes int64, unless string) { return o.Allocation, "" }

// Smaller is to allocate nothing.
func (*Resize) Smaller() record.Hint {
	return record.Hintf("free some, or leave out %s: what is added gets its blocks when it is written", record.Do("").With("allocate"))
}

// Task is resize.
func (o *Resize) Task() Task {
	return Task{
		Name:        "resize",
		Usage:       "change the capacity of a volume",
		Description: "What is new reads as zeros, which are written into a volume in format luks; what --shrink cuts off is gone.",
		Example:     "--target vm1.raw --capacity 20G --allocate",
		Flags: append(append(o.Volume.flags("target"), o.Image.flags()...), o.Volume.known(), imageFormat(&o.Format),
			bytes("capacity", &o.Capacity, "`SIZE` that it shall hold"),
			onOff("shrink", &o.Shrink, "it may become smaller, and lose its end"),
			onOff("allocate", &o.Allocate, "reserve the space of what is new"),
		),
		Asks: true,
	}
}

// ResizeRequest asks for another capacity in bytes.
type ResizeRequest struct {
	Capacity int64 `json:"capacity"`
	Shrink   bool  `json:"shrink,omitempty"`
	Allocate bool  `json:"allocate,omitempty"`
	JobOptions
}

// Check refuses what no volume can have.
func (r *ResizeRequest) Check() error {
	if r.Capacity < 1 {
		return record.Errorf(record.Invalid, `field "capacity" is missing or zero`)
	}
	return r.JobOptions.Check()
}

// Plan refuses to take away what was not given up.
func (r *ResizeRequest) Plan(k Known) (Operation, error) {
	has := k.Volume.Capacity
	switch {
	case r.Capacity < has && !r.Shrink:
		return nil, record.Errorf(record.Invalid, "capacity of %s is less than the present %s; what lies beyond would be lost", both(r.Capacity), both(has)).
			WithHint("%s does it", record.Do("").With("shrink"))
	case r.Capacity < has && r.Allocate:
		return nil, record.Errorf(record.Invalid, "capacity of %s is less than the present %s: nothing is added that could be allocated", both(r.Capacity), both(has))
	}
	chain, err := r.resizable(k)
	if err != nil {
		return nil, err
	}
	o := &Resize{Volume: k.On, Image: Image{Chain: chain}, Format: k.Volume.Format, Capacity: r.Capacity, Allocate: r.Allocate, Shrink: r.Capacity < has}
	if r.Allocate || !BeginsAsZeros(o.Format) { // where zeros are written
		o.Allocation = max(0, r.Capacity-has) // what is there already gets no more blocks
	}
	return o, nil
}

// resizable refuses a format of which the capacity cannot be changed so.
func (r *ResizeRequest) resizable(k Known) (Chain, error) {
	has := k.Volume.Capacity
	for verb, wanted := range map[string]bool{record.VerbGrow: r.Capacity > has, record.VerbShrink: r.Capacity < has, record.VerbAllocate: r.Allocate} {
		if wanted && !record.FormatCan(k.Volume.Format, verb) {
			_, err := k.chain(verb)
			return Chain{}, err
		}
	}
	if !record.IsImage(k.Volume.Format) {
		return Chain{}, nil
	}
	if r.Capacity%imageUnit != 0 {
		return Chain{}, record.Errorf(record.Invalid, "a volume in format %s has a capacity of multiples of %d bytes, not of %d", k.Volume.Format, imageUnit, r.Capacity).
			WithHint("the next one is %d", CapacityIn(k.Volume.Format, r.Capacity))
	}
	return k.chain(record.VerbWrite)
}
