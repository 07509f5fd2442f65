package operation

import (
	"cmp"
	"slices"
	"strings"

	"storaged/internal/quantity"
	"storaged/internal/record"
)

// Create makes a new volume, empty or with the content of a file or a stream.
type Create struct {
	Terms
	Volume
	Content
	Draft
	Existing
	Formatted
	Rights
	Chain // what it is to stand on; Secret is what is to open it
	Sealed
	FromSecret string `json:"from_secret,omitempty"` // name of the one that opens a content that is converted
	Capacity   int64  `json:"capacity,omitempty"`    // bytes; 0: that of the content
	Allocation *int64 `json:"allocation,omitempty"`  // bytes that shall have blocks; nil: all, and none of a content
	Resume     bool   `json:"-"`

	warnings []string // of what is other than it was asked for
	solid    bool     // volumes of the pool have all that they hold, however they are made
}

var _ interface {
	Operation
	Making
	Grows
	Repeatable
	Warning
} = (*Create)(nil)

// NewCreate gives one with the defaults of its task.
func NewCreate() *Create { return &Create{Volume: Volume{Type: defaultType}, Content: newContent()} }

// Kind is volume.create.
func (*Create) Kind() record.Kind { return record.VolumeCreate }

// Class: what writes much, or waits for its client, is no short job. The tables of an
// image may be much.
func (o *Create) Class() record.Class {
	if o.Form == "" && deref(o.Allocation) == 0 && o.Options[Preallocation] != "metadata" {
		return record.Normal
	}
	return record.Async
}

// Locks the name that the volume will have, and what it will stand on.
func (o *Create) Locks() []record.Object {
	return append([]record.Object{o.lock(record.ModeWrite)}, o.Chain.locks()...)
}

// Settle removes what is unfinished.
func (o *Create) Settle() *Settle { return &Settle{Volume: o.Volume, Keep: o.Keep} }

// Keys: a content that is converted can have a secret of its own.
func (o *Create) Keys() []string { return []string{o.FromSecret} }

// Warnings: its capacity may not be as it was asked for, and what was encrypted be in clear.
func (o *Create) Warnings(record.Volume) []string {
	if o.FromSecret == "" || o.Chain.Secret != "" {
		return o.warnings
	}
	return append(slices.Clone(o.warnings), "the content is encrypted, and the new volume is not")
}

// Effect: it makes a volume.
func (*Create) Effect() Effect { return Makes }

// Moves what is allocated.
func (o *Create) Moves() (bytes int64, bounds bool) { return *o.Allocation, o.Form == "" }

// Made is how it is listed.
func (o *Create) Made() Made {
	return Made{Format: o.Format, Capacity: o.Capacity, Promised: *o.Allocation, Secret: o.Chain.Secret, IterTime: o.iterTime()}
}

// Done if there is such a volume.
func (o *Create) Done(is Known) (bool, error) { return o.matches(is.Volume, o.Format, o.Chain.Secret) }

// Needs what is allocated.
func (o *Create) Needs() (bytes int64, unless string) {
	n := *o.Allocation
	if o.Form != "" && !BeginsAsZeros(o.Format) { // all of it is written
		n = max(n, o.Capacity)
	}
	if record.Plain(o.Format) {
		return n, ""
	}
	return quantity.Sum(n, n/imageTables), ""
}

// imageTables is how many bytes of an image have a byte of tables, at most, where
// nothing is said of the size of its clusters.
const imageTables = 4096

// Smaller is to allocate less, where volumes can have less than they hold.
func (o *Create) Smaller() record.Hint {
	if o.solid {
		return elsewhere()
	}
	return less()
}

// Task is allocate.
func (o *Create) Task() Task {
	return Task{
		Name:  "allocate",
		Usage: "make a new volume",
		Description: "The volume appears under its name when it is complete, and never replaces another. With --source\n" +
			"it gets that content; then its size is that of the content, unless --capacity is more. With --from-format\n" +
			"the content is one in that format, and is converted. A volume with a layer is an image that stands on it.",
		Example: "--target /var/lib/images/vm1.raw --capacity 10G",
		Flags: append(slices.Concat(o.Volume.flags("target"), o.Content.flags(), o.Formatted.flags(), o.Rights.flags(), o.Chain.flags("layer"), o.Sealed.flags(&o.Chain.Secret)),
			bytes("capacity", &o.Capacity, "`SIZE` that it can hold"),
			Flag{Name: "allocation", Usage: "reserve for it (default full, and none with --source): `full|none|SIZE`", value: amount{&o.Allocation}},
			text("from-format", &o.FromFormat, "the content is an image in that format, and is converted: `"+strings.Join(record.Formats, "|")+"`"),
			text("from-secret", &o.FromSecret, "`NAME` of the secret that opens that image"),
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
	Secret     string            `json:"secret,omitempty"` // name of the one that it is encrypted by
	From       string            `json:"from,omitempty"`
	Options    map[string]string `json:"options,omitempty"`
	ExistOK    bool              `json:"exist_ok,omitempty"` // the same volume is taken for it
	Rights
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
		r.Allocation = &Allocation{Full: r.reserves()}
	}
}

// reserves reports whether all is reserved of a volume of which nobody says how much.
func (r *CreateRequest) reserves() bool {
	return ReservesAll(r.Options) || r.Options[Preallocation] == "" && thinPool(r.Options) == "" && r.Format == record.FormatRaw
}

// Check refuses what no volume can be.
func (r *CreateRequest) Check() error {
	if err := cmp.Or(checkNewName(r.Name), r.JobOptions.Check()); err != nil {
		return err
	}
	switch {
	case r.From != "":
		return record.Errorf(record.Unsupported, "a file is not read by its path: the daemon opens nothing for its clients").
			WithHint("upload its content into a new volume, or hand it over open")
	case r.Capacity < 0 || r.Capacity == 0 && r.Backing == "":
		return record.Errorf(record.Invalid, "capacity must be more than 0 bytes, not %d", r.Capacity)
	case r.Allocation != nil && r.Allocation.of(r.Capacity) > r.Capacity:
		return record.Errorf(record.Invalid, "allocation of %s is more than the capacity of %s", both(r.Allocation.Bytes), both(r.Capacity))
	}
	return cmp.Or(r.checkImage(), r.checkBacking(), CheckEncryption(cmp.Or(r.Format, record.FormatRaw), r.Secret, r.Options), r.CheckRights())
}

// checkImage refuses what no volume in the format is made with.
func (r *CreateRequest) checkImage() error {
	format := cmp.Or(r.Format, record.FormatRaw)
	c, ok := record.CreationOf(format)
	if !ok { // which the pool refuses, and says what it can
		return nil
	}
	a := r.Allocation
	if _, err := CheckOptions(format, r.Options, a != nil && a.Full); err != nil {
		return err
	}
	if err := checkThin(r.Options, a != nil && a.Bytes > 0); err != nil {
		return err
	}
	if a != nil && !a.Full && a.Bytes > 0 && !slices.Contains(c.Allocation, record.AllocateSize) {
		return record.Errorf(record.Unsupported, "of a volume in format %s no part can be reserved, but %s", format, record.List(c.Allocation, 3))
	}
	if r.Options[Compression] != "" {
		return record.Errorf(record.Invalid, "option compression is for a content that is written: an empty volume has none").
			WithHint("it is for %s, and for a volume that is made of a file", record.Do("volume.clone", "VOL", "POOL/NAME"))
	}
	return nil
}

// checkBacking refuses what an image that stands on another volume cannot have.
func (r *CreateRequest) checkBacking() error {
	if r.Backing == "" {
		return nil
	}
	if _, _, err := backingOf("", r.Backing); err != nil {
		return err
	}
	format := cmp.Or(r.Format, record.FormatRaw)
	if c, _ := record.CreationOf(format); !c.Backing {
		return record.Errorf(record.Unsupported, "a volume in format %s cannot stand on another", format).WithHint("%s", record.Do("").With("format", "qcow2"))
	}
	reserved := r.Allocation != nil && (r.Allocation.Full || r.Allocation.Bytes > 0)
	if pre := r.Options[Preallocation]; reserved || pre != "" && pre != "off" {
		return record.Errorf(record.Invalid, "nothing can be reserved for a volume that stands on another: what is not written yet lies there")
	}
	return nil
}

// Plan refuses a format that the pool's type cannot make, and a backing that no image
// can stand on.
func (r *CreateRequest) Plan(k Known) (Operation, error) {
	if err := k.Can.CanMakeWith(r.Format, renamed(r.Options)); err != nil {
		return nil, err
	}
	options, err := CheckOptions(r.Format, r.Options, r.Allocation.Full)
	if err != nil {
		return nil, err
	}
	o := &Create{Volume: k.On, Content: Content{Format: r.Format}, Formatted: Formatted{options}, Rights: r.Rights, Capacity: CapacityIn(r.Format, r.Capacity), solid: !k.Can.Sparse}
	o.warnings = rounded(r.Format, r.Capacity)
	if r.Backing != "" {
		if err := o.standOn(k, r.Backing); err != nil {
			return nil, err
		}
	}
	if err := standsInClear(record.Volume{}, o.Chain, r.Secret, record.Do("volume.create", "POOL/NAME").With("backing", r.Backing).With("format", LinkedFormat).With("secret", "SECRET")); err != nil {
		return nil, err
	}
	o.Chain.Secret = r.Secret
	allocation := r.Allocation.of(o.Capacity)
	capacity := o.Capacity
	o.Allocation, o.Existing = &allocation, Existing{r.ExistOK, &capacity}
	return o, nil
}

// standOn gives the new image its backing, and the capacity of that unless it has one
// of its own.
func (o *Create) standOn(k Known, backing string) (err error) {
	pool, name, err := backingOf(k.On.Pool, backing)
	if err != nil {
		return err
	}
	if o.Chain, err = k.Under(pool, name); err != nil {
		return err
	}
	if o.Capacity == 0 {
		v, err := k.Other(pool, name)
		if err != nil {
			return err
		}
		o.Capacity, o.warnings = CapacityIn(o.Format, v.Capacity), rounded(o.Format, v.Capacity)
	}
	return nil
}
