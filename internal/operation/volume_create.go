package operation

import (
	"cmp"
	"slices"

	"storaged/internal/record"
)

// Create makes a new volume, empty or with the content of a file or a stream.
type Create struct {
	Terms
	Volume
	Content
	Draft
	Existing
	Capacity   int64  `json:"capacity,omitempty"`   // bytes; 0: that of the content
	Allocation *int64 `json:"allocation,omitempty"` // bytes that shall have blocks; nil: all, and none of a content
	Resume     bool   `json:"-"`
}

var _ interface {
	Operation
	Making
	Grows
	Repeatable
} = (*Create)(nil)

// NewCreate gives one with the defaults of its task.
func NewCreate() *Create { return &Create{Volume: Volume{Type: defaultType}, Content: newContent()} }

// Kind is volume.create.
func (*Create) Kind() record.Kind { return record.VolumeCreate }

// Class: what writes much, or waits for its client, is no short job.
func (o *Create) Class() record.Class {
	if o.Form == "" && (o.Allocation == nil || *o.Allocation == 0) {
		return record.Normal
	}
	return record.Async
}

// Locks the name that the volume will have.
func (o *Create) Locks() []record.Object { return []record.Object{o.lock(record.ModeWrite)} }

// Settle removes what is unfinished.
func (o *Create) Settle() *Settle { return &Settle{Volume: o.Volume, Keep: o.Keep} }

// Effect: it makes a volume.
func (*Create) Effect() Effect { return Makes }

// Moves what is allocated.
func (o *Create) Moves() (bytes int64, bounds bool) { return *o.Allocation, o.Form == "" }

// Made is how it is listed.
func (o *Create) Made() Made { return Made{o.Format, o.Capacity, *o.Allocation} }

// Done if there is such a volume.
func (o *Create) Done(is Known) (bool, error) { return o.matches(is.Volume, o.Format) }

// Needs what is allocated.
func (o *Create) Needs() (bytes int64, shareable bool) { return *o.Allocation, false }

// Smaller is to allocate less.
func (*Create) Smaller() record.Hint { return less() }

// Task is allocate.
func (o *Create) Task() Task {
	return Task{
		Name:  "allocate",
		Usage: "make a new volume",
		Description: "The volume appears under its name when it is complete, and never replaces another. With --source\n" +
			"it gets that content; then its size is that of the content, unless --capacity is more.",
		Example: "--target /var/lib/images/vm1.raw --capacity 10G",
		Flags: append(append(o.Volume.flags("target"), o.Content.flags()...),
			bytes("capacity", &o.Capacity, "`SIZE` that it can hold"),
			Flag{Name: "allocation", Usage: "reserve for it (default full, and none with --source): `full|none|SIZE`", value: amount{&o.Allocation}},
			onFailure(&o.Keep), resume(&o.Resume),
		),
	}
}

// CreateRequest asks for a volume.
type CreateRequest struct {
	Name       string            `json:"name"`
	Capacity   int64             `json:"capacity"`
	Allocation *Allocation       `json:"allocation,omitempty"` // default full for raw, none else
	Format     string            `json:"format,omitempty"`     // default raw
	Backing    string            `json:"backing,omitempty"`
	From       string            `json:"from,omitempty"`
	Options    map[string]string `json:"options,omitempty"`
	ExistOK    bool              `json:"exist_ok,omitempty"` // the same volume is taken for it
	JobOptions
}

var _ interface {
	Request
	Maker
} = (*CreateRequest)(nil)

// NewName is that of the volume.
func (r *CreateRequest) NewName() (name string, ok bool) { return r.Name, true }

// Fill puts in what it leaves out: all of a raw volume is allocated, as libvirt
// does it, and nothing of another.
func (r *CreateRequest) Fill() {
	r.JobOptions.Fill()
	r.Format = cmp.Or(r.Format, record.FormatRaw)
	if r.Allocation == nil {
		r.Allocation = &Allocation{Full: r.Format == record.FormatRaw}
	}
}

// Check refuses what no volume can be.
func (r *CreateRequest) Check() error {
	if err := cmp.Or(checkNewName(r.Name), r.JobOptions.Check()); err != nil {
		return err
	}
	switch {
	case r.Backing != "":
		return record.Errorf(record.Unsupported, "volumes with backing are not supported yet")
	case r.From != "":
		return record.Errorf(record.Unsupported, "a file is not read by its path: the daemon opens nothing for its clients").
			WithHint("upload its content into a new volume, or hand it over open")
	case len(r.Options) > 0:
		return record.Errorf(record.Invalid, "format %s has no options", cmp.Or(r.Format, record.FormatRaw))
	case r.Capacity <= 0:
		return record.Errorf(record.Invalid, "capacity must be more than 0 bytes, not %d", r.Capacity)
	case r.Allocation != nil && r.Allocation.of(r.Capacity) > r.Capacity:
		return record.Errorf(record.Invalid, "allocation of %s is more than the capacity of %s", both(r.Allocation.Bytes), both(r.Capacity))
	}
	return nil
}

// Plan refuses a format that the pool's type cannot make.
func (r *CreateRequest) Plan(k Known) (Operation, error) {
	if !slices.Contains(k.Can.Formats, r.Format) {
		return nil, record.Errorf(record.Unsupported, "format %q cannot be made in pool %q of type %s; it can make %s",
			r.Format, k.Pool.Name, k.Pool.Type, record.List(k.Can.Formats, 10))
	}
	allocation := r.Allocation.of(r.Capacity)
	return &Create{
		Volume: k.On, Content: Content{Format: r.Format}, Capacity: r.Capacity, Allocation: &allocation, Existing: Existing{r.ExistOK, &r.Capacity},
	}, nil
}
