package operation

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"storaged/internal/quantity"
	"storaged/internal/record"
)

// Clone copies a volume to a new one: its file as it is, or, with To or Linked, what a
// guest sees of it.
type Clone struct {
	Terms
	Volume // the source
	Into
	Draft
	Existing
	Homes
	Formatted // how the copy is made
	Rights
	Image             // the source, where its content is read
	NewSecret  string `json:"new_secret,omitempty"` // name of the one that is to open the copy; "": that which opens the source's file, or none
	To         string `json:"to,omitempty"`         // format of a copy of the content; "": the file is copied
	Linked     bool   `json:"linked,omitempty"`     // the copy is an image of that format that stands on the source
	Format     string `json:"format"`               // of the source, and of a copy of the file
	Capacity   int64  `json:"capacity,omitempty"`   // bytes of the copy; 0: as the source
	Allocation int64  `json:"allocation,omitempty"` // bytes that the copy may need
	Promise    *int64 `json:"promise,omitempty"`    // bytes of the copy that shall have blocks; nil: as comes
	Reflink    string `json:"reflink"`              // auto, always, never
	Apart      bool   `json:"apart,omitempty"`      // where it goes nothing is shared with the source
	Sparse     bool   `json:"sparse,omitempty"`     // what reads as zeros is left out
	Resume     bool   `json:"-"`

	warnings []string // of what is other than it was asked for
}

var _ interface {
	Operation
	Making
	Grows
	Repeatable
	Warning
} = (*Clone)(nil)

// NewClone gives one with the defaults of its task.
func NewClone() *Clone {
	return &Clone{Volume: Volume{Type: defaultType}, Into: newInto(), Reflink: "auto"}
}

// NewConvert gives one of the content, with the defaults of its task.
func NewConvert() *Clone {
	o := NewClone()
	o.To = record.FormatRaw
	return o
}

// Kind is volume.clone.
func (*Clone) Kind() record.Kind { return record.VolumeClone }

// Class: it takes as long as there is to copy.
func (o *Clone) Class() record.Class {
	if o.Linked {
		return record.Normal
	}
	return record.Async
}

// Locks: others may read the source too, and what it stands on.
func (o *Clone) Locks() []record.Object {
	return append([]record.Object{o.lock(record.ModeRead), o.Target.lock(record.ModeWrite)}, o.Chain.locks()...)
}

// Settle removes an unfinished copy.
func (o *Clone) Settle() *Settle { return &Settle{Volume: Volume(o.Target), Keep: o.Keep} }

// Effect: it makes a volume.
func (*Clone) Effect() Effect { return Makes }

// Allowed refuses a copy of the file that would not be one.
func (o *Clone) Allowed(k Known) error {
	if o.To != "" {
		return nil
	}
	return k.copyable(o.Target.Pool)
}

// StandsIn is of interest if it is an image.
func (o *Clone) StandsIn(dirs []string) { o.set(o.Format, dirs) }

// Warnings: a copy of the file has its problem too; one of the content has no snapshots of
// its own, and may be in clear.
func (o *Clone) Warnings(on record.Volume) []string {
	all := o.warnings
	if on.Problem != "" {
		all = append(all, "the copy is of the file as it is, and has its problem too: "+on.Problem)
	}
	if o.To == "" || o.Linked {
		return all
	}
	all = append(all, exposed(on, o.Chain, o.NewSecret, "its copy")...)
	return append(all, losesInternal(on, notCopied)...)
}

// Relies on the source.
func (*Clone) Relies() bool { return true }

// Keys: a copy of what a guest sees can have another secret than the source.
func (o *Clone) Keys() []string { return []string{o.NewSecret} }

// Moves what there is to copy.
func (o *Clone) Moves() (bytes int64, bounds bool) {
	if o.Linked {
		return 0, true
	}
	return o.Capacity, true
}

// Made is how it is listed.
func (o *Clone) Made() Made {
	return Made{Format: o.made(), Capacity: o.Capacity, Promised: deref(o.Promise), Secret: o.NewSecret, IterTime: o.iterTime(), Apart: o.To != ""}
}

// made is the format of the copy.
func (o *Clone) made() string { return cmp.Or(o.To, o.Format) }

// Done if there is such a volume.
func (o *Clone) Done(is Known) (bool, error) { return o.matches(is.Volume, o.made(), o.NewSecret) }

// Needs what the source has allocated, or what is promised.
func (o *Clone) Needs() (bytes int64, unless string) {
	switch {
	case o.Reflink == "always":
		return 0, ""
	case o.Sparse && o.Promise == nil && (o.To == "" || BeginsAsZeros(o.To)): // nothing is shared of what leaves something out
		return o.Allocation, "the clone can be made only if enough of its source is zeros, which are left out"
	case o.To == "" && o.Reflink == "auto" && !o.Apart:
		return o.Allocation, "the clone can be made only if it can share blocks with its source"
	}
	return o.Allocation, ""
}

// Smaller is to put it elsewhere.
func (*Clone) Smaller() record.Hint { return elsewhere() }

// Task is clone, or convert where the content is copied; a linked clone is made like
// every volume that stands on another.
func (o *Clone) Task() Task {
	switch {
	case o.Linked:
		return o.overlay().Task()
	case o.To != "":
		return o.convert()
	}
	return Task{
		Name:  "clone",
		Usage: "copy a volume to a new one",
		Description: "The copy appears under its name when it is complete, and never replaces another. Holes stay\n" +
			"holes, unless --allocation says otherwise, and reserved blocks stay reserved, except with --sparse.\n" +
			"Owner, permissions, ACL and attributes user.* are those of the source. The source may grow\n" +
			"meanwhile; the copy has the size that the source had at the start.",
		Example: "--source base.raw --target vm1.raw --limit 200M",
		Flags: append(slices.Concat(o.Target.flags(), o.Volume.flags("source"), o.Formatted.flags(), o.Rights.flags()), o.Volume.known(), imageFormat(&o.Format), o.among(),
			bytes("size", &o.Capacity, "`SIZE` of the copy, default that of the source"),
			text("reflink", &o.Reflink, "share blocks with the source: `auto|always|never`"),
			promised(&o.Promise),
			onOff("sparse", &o.Sparse, "leave out blocks of zeros"),
			onFailure(&o.Keep), resume(&o.Resume),
		),
	}
}

// convert is the task of a copy of the content.
func (o *Clone) convert() Task {
	return Task{
		Name:  "convert",
		Usage: "copy what a guest sees of a volume to a new one, in any format",
		Description: "The new volume appears under its name when it is complete, never replaces another, and needs no\n" +
			"other: of an image that stands on others all of the content is copied. What reads as zeros is not\n" +
			"written. Owner, permissions, ACL and attributes user.* are those of the source.",
		Example: "--source base.vmdk --format vmdk --target vm1.qcow2 --to qcow2",
		Flags: append(slices.Concat(o.Target.flags(), o.Volume.flags("source"), o.Formatted.flags(), o.Rights.flags(), o.Image.flags()), o.Volume.known(), imageFormat(&o.Format),
			text("to", &o.To, "format of the new volume: `"+strings.Join(record.Formats, "|")+"`"),
			bytes("size", &o.Capacity, "`SIZE` of the copy, default that of the content"),
			text("new-secret", &o.NewSecret, "`NAME` of the secret that is to open the new volume, which is encrypted then"),
			promised(&o.Promise),
			onOff("sparse", &o.Sparse, "leave out data that is zeros"),
			onFailure(&o.Keep), resume(&o.Resume),
		),
	}
}

// overlay is the new volume of a linked clone, which stands on the source.
func (o *Clone) overlay() *Create {
	return &Create{
		Volume: Volume(o.Target), Content: Content{Format: o.To}, Formatted: o.Formatted, Rights: o.Rights, Draft: o.Draft, Capacity: o.Capacity, Allocation: new(int64), Resume: o.Resume,
		Chain: Chain{Secret: o.NewSecret, Layers: []Layer{{Volume: o.Volume, Format: o.Format}}}, Sealed: o.Sealed,
	}
}

// CloneRequest asks for a copy of a volume under another name. Pool is the
// target's, default the source's.
type CloneRequest struct {
	Name    string `json:"name"`
	Pool    string `json:"pool,omitempty"`
	Format  string `json:"format,omitempty"`   // default the source's; of a linked one qcow2
	Size    int64  `json:"size,omitempty"`     // default the source's capacity
	Linked  bool   `json:"linked,omitempty"`   // it stands on the source, and is empty itself
	Reflink string `json:"reflink,omitempty"`  // auto, always, never
	Sparse  bool   `json:"sparse,omitempty"`   // leave out blocks of zeros, and reserve none
	Secret  string `json:"secret,omitempty"`   // name of the one that the copy is encrypted by; then the content is copied, and not the file
	ExistOK bool   `json:"exist_ok,omitempty"` // a volume of that capacity and format is taken for it
	// Overwrite says that the volume is there, and loses its content to that of the source,
	// which is what a guest sees of it (Over).
	Overwrite bool `json:"overwrite,omitempty"`
	// Options are those of the format; with any of them the content is copied, and not
	// the file.
	Options map[string]string `json:"options,omitempty"`
	Rights
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
	if r.Linked {
		r.Format = cmp.Or(r.Format, LinkedFormat)
	}
}

// LinkedFormat is that of a linked clone of which nobody says another.
const LinkedFormat = "qcow2"

// Check refuses what no copy can be.
func (r *CloneRequest) Check() error {
	err := cmp.Or(checkNewName(r.Name), checkPool("pool", r.Pool), record.OneOf("reflink", r.Reflink, "auto", "always", "never", ""))
	if err != nil {
		return err
	}
	switch {
	case r.Overwrite && r.makes():
		return record.Errorf(record.Invalid, "a volume that is overwritten stays the one that it is: overwrite excludes what says how a new one is made")
	case r.Linked && (r.Sparse || r.Reflink == "always"):
		return record.Errorf(record.Invalid, "a linked clone has no content of its own: nothing of it is left out or shared")
	case r.Sparse && r.Reflink == "always":
		return record.Errorf(record.Invalid, "a clone that shares its blocks cannot leave zeros out: sparse and reflink always exclude each other")
	case r.Size < 0:
		return record.Errorf(record.Invalid, "size must not be negative: %d", r.Size)
	}
	return cmp.Or(r.CheckRights(), r.JobOptions.Check())
}

// makes reports whether the request says how a new volume is to be made.
func (r *CloneRequest) makes() bool {
	return r.Format != "" || r.Size != 0 || r.Linked || r.Reflink != "" && r.Reflink != "auto" || r.Sparse || r.Secret != "" || r.ExistOK || len(r.Options) > 0 || r.Rights != (Rights{})
}

// Over is the request for what is asked of a volume with Overwrite: to write its content
// over that of the volume which the request then is on.
func (r *CloneRequest) Over(pool, volume string) (toPool, toVolume string, over *UploadRequest) {
	return cmp.Or(r.Pool, pool), r.Name, &UploadRequest{Source: pool + "/" + volume, JobOptions: r.JobOptions}
}

// Plan decides what is copied: the file, or the content where another format, size or
// set of options is wanted, or where the file needs others.
func (r *CloneRequest) Plan(k Known) (Operation, error) {
	o := &Clone{Volume: k.On, Into: Into{k.Into}, Rights: r.Rights, Format: k.Volume.Format, Reflink: r.Reflink, Apart: k.Apart, Sparse: r.Sparse, Capacity: k.Volume.Capacity, Allocation: k.Volume.Allocation}
	if r.Size != 0 && r.Size < o.Capacity {
		return nil, record.Errorf(record.Invalid, "size of %s is less than the source's capacity of %s", both(r.Size), both(o.Capacity)).
			WithHint("clone it as it is, then cut the clone: %s", record.Do("volume.resize", k.Into.Pool+"/"+k.Into.Name, r.Size).With("shrink"))
	}
	o.Capacity = cmp.Or(r.Size, o.Capacity)
	if can := k.There.VolVerbs; slices.Contains(can, "upload") && !slices.Contains(can, "create") {
		return nil, record.Errorf(record.Unsupported, "no volume is made in pools of type %s", k.There.Type).
			WithHint("%s writes the copy over one that is there", record.Do("volume.clone", k.Pool.Name+"/"+k.Volume.Name, k.Into.Pool+"/VOLUME").With("overwrite"))
	}
	err := r.checkShared(k)
	switch {
	case err != nil:
	case r.Linked:
		err = r.link(k, o)
	case r.converts(k):
		err = r.convert(k, o)
	default:
		err = r.copy(k, o)
	}
	return o, err
}

// converts reports whether the content is copied, and not the file.
func (r *CloneRequest) converts(k Known) bool {
	v := k.Volume
	options := len(r.Options) - len(r.ofPool(v))
	return r.Format != "" && r.Format != v.Format || options > 0 || r.Secret != "" || record.IsImage(v.Format) && (r.Size != 0 || len(k.References) > 0)
}

// ofPool are the options that say only where a copy of the file lies.
func (r *CloneRequest) ofPool(v record.Volume) map[string]string {
	c, _ := record.CreationOf(v.Format)
	return c.OfPool(renamed(r.Options))
}

// copy makes o a copy of the file.
func (r *CloneRequest) copy(k Known, o *Clone) (err error) {
	if own := r.ofPool(k.Volume); len(own) > 0 {
		o.Options, err = CheckOptions(o.Format, own, false)
		if err = cmp.Or(err, k.There.CanMakeWith(o.Format, own)); err != nil {
			return err
		}
	}
	capacity := o.Capacity
	o.Existing = Existing{r.ExistOK, &capacity}
	if promise := o.promise(k); promise > 0 {
		o.Promise, o.Allocation = &promise, max(o.Allocation, promise)
	}
	if o.thin() {
		o.Promise, o.Allocation = nil, 0
	}
	if o.Format != record.FormatRaw {
		o.Capacity = 0 // the file is copied as it is
	}
	return nil
}

// thin reports whether the copy gets its storage as it is written, and not from its pool.
func (o *Clone) thin() bool { return o.Options[record.OptionThinPool] != "" }

// checkShared refuses to share blocks where that cannot be.
func (r *CloneRequest) checkShared(k Known) error {
	if r.Reflink != "always" || !k.Apart {
		return nil
	}
	why := fmt.Sprintf("pools %q and %q lie on different file systems or devices, between which no blocks are shared", k.Pool.Name, k.Into.Pool)
	if k.Pool.Name == k.Into.Pool {
		why = fmt.Sprintf("volumes of pool type %q share no blocks", k.Pool.Type)
	}
	return record.Errorf(record.Unsupported, "%s", why).
		WithHint("%s copies the volume; %s has the new one stand on it", record.Do("").With("reflink", "auto"), record.Do("").With("linked"))
}

// convert makes o a copy of the content, which needs no other volume.
func (r *CloneRequest) convert(k Known, o *Clone) (err error) {
	if r.Reflink == "always" {
		return record.Errorf(record.Unsupported, "what is converted shares no blocks with its source").
			WithHint("%s shares all of it", record.Do("").With("linked"))
	}
	if o.Chain, err = k.Chain(); err != nil {
		return err
	}
	if err := r.checkClear(k.Volume, o.Chain); err != nil {
		return err
	}
	if err := r.image(k, o, cmp.Or(r.Format, o.Format)); err != nil {
		return err
	}
	o.Reflink, o.Allocation = "never", quantity.Sum(o.Allocation, k.lacks(o.Chain))
	switch {
	case ReservesAll(o.Options):
		promise := o.Capacity
		o.Promise, o.Allocation = &promise, promise
	case !BeginsAsZeros(o.To): // so that all of it is written
		o.Allocation = o.Capacity
	case o.thin():
		o.Allocation = 0
	}
	return nil
}

// link makes o an image that stands on the source.
func (r *CloneRequest) link(k Known, o *Clone) error {
	if c, ok := record.CreationOf(r.Format); ok && !c.Backing {
		return record.Errorf(record.Unsupported, "a volume in format %s cannot stand on another", r.Format).WithHint("%s", record.Do("").With("format", LinkedFormat))
	}
	under, err := k.Under(k.Volume.Pool, k.Volume.Name) // it must be one that can be opened
	if err == nil {
		err = standsInClear(k.Volume, under, r.Secret, record.Do("").With("secret", "SECRET"))
	}
	if err == nil {
		err = r.image(k, o, r.Format)
	}
	if err != nil {
		return err
	}
	if pre := o.Options[Preallocation]; pre != "" && pre != "off" || o.Options[Compression] != "" {
		return record.Errorf(record.Invalid, "a linked clone has no content yet, and nothing is reserved for it: what is not written to it lies in its source")
	}
	o.Linked, o.Allocation = true, 0
	if _, given := o.Options[iterTime]; o.NewSecret != "" && !given && k.IterTime > 0 {
		o.Options[iterTime] = strconv.FormatInt(k.IterTime, 10)
	}
	return nil
}

// image says how the copy is made.
func (r *CloneRequest) image(k Known, o *Clone, format string) (err error) {
	if err := k.There.CanMakeWith(format, renamed(r.Options)); err != nil {
		return err
	}
	o.To, o.warnings = format, rounded(format, o.Capacity)
	o.Capacity = CapacityIn(format, o.Capacity)
	capacity := o.Capacity
	o.Existing, o.NewSecret = Existing{r.ExistOK, &capacity}, r.Secret
	if err := CheckEncryption(format, r.Secret, r.Options); err != nil {
		return err
	}
	o.Options, err = CheckOptions(format, r.Options, false)
	return err
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
