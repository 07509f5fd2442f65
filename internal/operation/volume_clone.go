package operation

import (
	"cmp"

	"storaged/internal/record"
)

// Clone copies a volume to a new one.
type Clone struct {
	Terms
	Volume // the source
	Into
	Draft
	Existing
	Homes
	Format     string `json:"format"`               // of both
	Capacity   int64  `json:"capacity,omitempty"`   // bytes of the copy; 0: as the source
	Allocation int64  `json:"allocation,omitempty"` // bytes that the copy may need
	Promise    *int64 `json:"promise,omitempty"`    // bytes of the copy that shall have blocks; nil: as comes
	Reflink    string `json:"reflink"`              // auto, always, never
	Sparse     bool   `json:"sparse,omitempty"`     // what reads as zeros is left out
	Resume     bool   `json:"-"`
}

var _ interface {
	Operation
	Making
	Grows
	Repeatable
} = (*Clone)(nil)

// NewClone gives one with the defaults of its task.
func NewClone() *Clone {
	return &Clone{Volume: Volume{Type: defaultType}, Into: newInto(), Reflink: "auto"}
}

// Kind is volume.clone.
func (*Clone) Kind() record.Kind { return record.VolumeClone }

// Class: it takes as long as there is to copy.
func (*Clone) Class() record.Class { return record.Async }

// Locks: others may read the source too.
func (o *Clone) Locks() []record.Object {
	return []record.Object{o.lock(record.ModeRead), o.Target.lock(record.ModeWrite)}
}

// Settle removes an unfinished copy.
func (o *Clone) Settle() *Settle { return &Settle{Volume: Volume(o.Target), Keep: o.Keep} }

// Effect: it makes a volume.
func (*Clone) Effect() Effect { return Makes }

// Allowed refuses a copy that would not be one.
func (o *Clone) Allowed(k Known) error { return k.copyable(o.Target.Pool) }

// StandsIn is of interest if it is an image.
func (o *Clone) StandsIn(dirs []string) { o.set(o.Format, dirs) }

// Relies on the source.
func (*Clone) Relies() bool { return true }

// Moves what there is to copy.
func (o *Clone) Moves() (bytes int64, bounds bool) { return o.Capacity, true }

// Made is how it is listed.
func (o *Clone) Made() Made { return Made{o.Format, o.Capacity, deref(o.Promise)} }

// Done if there is such a volume.
func (o *Clone) Done(is Known) (bool, error) { return o.matches(is.Volume, o.Format) }

// Needs what the source has allocated, or what is promised.
func (o *Clone) Needs() (bytes int64, shareable bool) {
	if o.Reflink == "always" {
		return 0, true
	}
	return o.Allocation, o.Reflink == "auto"
}

// Smaller is to put it elsewhere.
func (*Clone) Smaller() record.Hint { return elsewhere() }

// Task is clone.
func (o *Clone) Task() Task {
	return Task{
		Name:  "clone",
		Usage: "copy a volume to a new one",
		Description: "The copy appears under its name when it is complete, and never replaces another. Holes stay\n" +
			"holes, unless --allocation says otherwise, and reserved blocks stay reserved, except with --sparse.\n" +
			"Owner, permissions, ACL and attributes user.* are those of the source. The source may grow\n" +
			"meanwhile; the copy has the size that the source had at the start.",
		Example: "--source base.raw --target vm1.raw --limit 200M",
		Flags: append(append(o.Target.flags(), o.Volume.flags("source")...), o.Volume.known(), imageFormat(&o.Format), o.among(),
			bytes("size", &o.Capacity, "`SIZE` of the copy, default that of the source"),
			text("reflink", &o.Reflink, "share blocks with the source: `auto|always|never`"),
			promised(&o.Promise),
			onOff("sparse", &o.Sparse, "leave out blocks of zeros"),
			onFailure(&o.Keep), resume(&o.Resume),
		),
	}
}

// CloneRequest asks for a copy of a volume under another name. Pool is the
// target's, default the source's.
type CloneRequest struct {
	Name    string `json:"name"`
	Pool    string `json:"pool,omitempty"`
	Format  string `json:"format,omitempty"`
	Size    int64  `json:"size,omitempty"` // default the source's capacity
	Linked  bool   `json:"linked,omitempty"`
	Reflink string `json:"reflink,omitempty"`  // auto, always, never
	Sparse  bool   `json:"sparse,omitempty"`   // leave out blocks of zeros, and reserve none
	ExistOK bool   `json:"exist_ok,omitempty"` // a volume of that capacity is taken for it
	JobOptions
}

var _ interface {
	Request
	Sender
} = (*CloneRequest)(nil)

// Goes: where the copy is made.
func (r *CloneRequest) Goes() (pool, volume string) { return r.Pool, r.Name }

// Fill puts in what it leaves out.
func (r *CloneRequest) Fill() {
	r.JobOptions.Fill()
	r.Reflink = cmp.Or(r.Reflink, "auto")
}

// Check refuses what no copy can be.
func (r *CloneRequest) Check() error {
	err := cmp.Or(checkNewName(r.Name), checkPool("pool", r.Pool), record.OneOf("reflink", r.Reflink, "auto", "always", "never", ""))
	if err != nil {
		return err
	}
	switch {
	case r.Linked:
		return record.Errorf(record.Unsupported, "linked clones are not supported yet")
	case r.Sparse && r.Reflink == "always":
		return record.Errorf(record.Invalid, "a clone that shares its blocks cannot leave zeros out: sparse and reflink always exclude each other")
	case r.Size < 0:
		return record.Errorf(record.Invalid, "size must not be negative: %d", r.Size)
	}
	return r.JobOptions.Check()
}

// Plan refuses what cannot be done to the volume's format.
func (r *CloneRequest) Plan(k Known) (Operation, error) {
	v := k.Volume
	o := &Clone{Volume: k.On, Into: Into{k.Into}, Format: v.Format, Reflink: r.Reflink, Sparse: r.Sparse, Capacity: v.Capacity, Allocation: v.Allocation}
	switch {
	case r.Format != "" && r.Format != v.Format:
		return nil, record.Errorf(record.Unsupported, "converting %q to %q while cloning is not supported yet", v.Format, r.Format)
	case v.Format != record.FormatRaw && r.Size != 0:
		return nil, record.Errorf(record.Unsupported, "a clone of format %q keeps its size", v.Format)
	case r.Size != 0 && r.Size < v.Capacity:
		return nil, record.Errorf(record.Invalid, "size of %s is less than the source's capacity of %s", both(r.Size), both(v.Capacity))
	case r.Size != 0:
		o.Capacity = r.Size
	}
	capacity := o.Capacity
	o.Existing = Existing{r.ExistOK, &capacity}
	if promise := o.promise(k); promise > 0 {
		o.Promise, o.Allocation = &promise, max(o.Allocation, promise)
	}
	if v.Format != record.FormatRaw {
		o.Capacity = 0 // the file is copied as it is
	}
	return o, nil
}

// promise is how many bytes of the clone shall have blocks: as many as of its
// source, and all if the source was to have all.
func (o *Clone) promise(k Known) int64 {
	switch {
	case o.Sparse:
		return 0
	case k.Promised > 0 && k.Promised >= k.Volume.Capacity:
		return o.Capacity
	}
	return k.Promised
}
