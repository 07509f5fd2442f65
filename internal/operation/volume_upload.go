package operation

import (
	"cmp"
	"os"
	"slices"
	"strings"

	"storaged/internal/record"
)

// Upload writes the content of a file or a stream into a volume.
type Upload struct {
	Terms
	Volume
	View
	Content
	Capacity  int64 `json:"capacity,omitempty"`  // bytes of the volume
	Offset    int64 `json:"offset,omitempty"`    // bytes of the volume before the content
	Skipped   int64 `json:"skipped,omitempty"`   // bytes before Offset that Continues has uploaded
	Continues int64 `json:"continues,omitempty"` // number of the job of the same content that marked the volume, or was the first
	Known     bool  `json:"known,omitempty"`     // Length is what the jobs that it is the rest of say
	// Beginning is the checksum of the Skipped bytes as the client has them, with
	// its algorithm; "": not known.
	Beginning string `json:"beginning,omitempty"`
	// Over says that the content is what a guest sees of another volume, the first of
	// Layers: it is no client's, and written over all that there was.
	Over bool `json:"over,omitempty"`
}

var _ interface {
	Operation
	Fills
} = (*Upload)(nil)

// NewUpload gives one with the defaults of its task.
func NewUpload() *Upload {
	return &Upload{Volume: Volume{Type: defaultType}, View: View{As: record.AsFile}, Content: newContent()}
}

// NewOver gives one of another volume's content, with the defaults of its task.
func NewOver() *Upload {
	return &Upload{Volume: Volume{Type: defaultType}, Content: newContent(), Over: true}
}

// Kind is volume.upload.
func (*Upload) Kind() record.Kind { return record.VolumeUpload }

// Class: it takes as long as there is to write, or its client takes.
func (*Upload) Class() record.Class { return record.Async }

// Opens reports whether the volume is opened as an image.
func (o *Upload) Opens() bool { return o.opens(o.Format) }

// Locks the volume against everybody.
func (o *Upload) Locks() []record.Object {
	return append([]record.Object{o.lock(record.ModeWrite)}, o.Chain.locks()...)
}

// Destroys what was there.
func (*Upload) Destroys() bool { return true }

// Settle looks what it is now.
func (o *Upload) Settle() *Settle { return &Settle{Volume: o.Volume} }

// Warnings: another image has other snapshots of its own.
func (o *Upload) Warnings(on record.Volume) []string {
	if o.Over {
		return exposed(record.Volume{}, o.Chain, "", "what is written of it over volume "+record.Quoted(on.Pool, on.Name))
	}
	if o.Opens() {
		return nil
	}
	return losesInternal(on, replaced)
}

// Partial reports whether it began in the middle of the volume, and not as the
// rest of one that broke off there.
func (o *Upload) Partial() bool { return o.Offset != o.Skipped }

// Effect: the content changes in place.
func (*Upload) Effect() Effect { return Changes }

// Allowed refuses to write to the content of an image that lies in other files.
func (o *Upload) Allowed(k Known) error {
	if o.Opens() {
		return k.writable()
	}
	return nil
}

// Displaces what is there.
func (*Upload) Displaces() bool { return true }

// Moves what comes, as fast as the client sends it.
func (o *Upload) Moves() (bytes int64, bounds bool) {
	if o.Length != nil {
		return *o.Length, false
	}
	return o.Capacity - o.Offset, false
}

// Overwrites the holes too, where a stream has none.
func (o *Upload) Overwrites() (length *int64, ok bool) {
	return o.Length, o.Dense && o.Length != nil && !o.DetectZeros
}

// Smaller is to make holes.
func (*Upload) Smaller() record.Hint {
	return record.Hintf("free some, or upload it with %s, if much of it is zeros", record.Do("").With("detect_zeros"))
}

// Task is upload.
func (o *Upload) Task() Task {
	if o.Over {
		return o.over()
	}
	return Task{
		Name:  "upload",
		Usage: "write a content into a volume",
		Description: "The volume keeps its size; what the content does not cover stays as it was. Holes of a file are\n" +
			"neither read nor written. A file that qemu has open for writing, or a loop device, is refused as busy,\n" +
			"and one that changes meanwhile makes the upload fail; of a stream that cannot be noticed. A volume that is an image\n" +
			"becomes the image that is uploaded, unless its content is meant (--as raw). A content that begins\n" +
			"like an image of another format than the volume's is refused.",
		Example: "--target vm1.raw --source vm1.img --yes",
		Flags: append(slices.Concat(o.Volume.flags("target"), o.Content.flags(), o.View.flags()), o.Volume.known(),
			bytes("offset", &o.Offset, "where in the volume the content begins (default 0): `SIZE`"),
			bytes("skipped", &o.Skipped, "`SIZE` of the content that an earlier upload has written counts as done: a stream begins behind it, and all of the content is read back for --checksum"),
			text("beginning", &o.Beginning, "refuse unless what was written before has this checksum; that of a file is compared in any case: `ALGORITHM:HEX`"),
		),
		Asks: true,
	}
}

// over is the task of another volume's content.
func (o *Upload) over() Task {
	return Task{
		Name:  "overwrite",
		Usage: "write what a guest sees of a volume over the content of another, which is raw",
		Description: "The volume keeps its size; what the content does not cover reads as zeros afterwards. The first layer\n" +
			"is the source, the others are what that stands on.",
		Example: `--target /dev/sdb1 --target-type disk --layer '{"path":"/var/lib/images/base.qcow2","format":"qcow2"}' --yes`,
		Flags:   append(append(o.Volume.flags("target"), o.Image.flags()...), o.Volume.known()),
		Asks:    true,
	}
}

// UploadRequest asks to write a content into a volume, or, with Create, into a
// new one.
type UploadRequest struct {
	Offset      int64  // bytes of the volume before it
	Length      *int64 // bytes; nil: as many as come
	Exact       bool   // more than Length is refused, and not left aside
	Continues   string // job that uploaded what lies before Offset, and ended unfinished
	Beginning   string // checksum of what lies before Offset, as the sender has it; "" is not known
	Checksum    string // sha256 or crc32c, with :HEX what it must be; "" is crc32c
	AsFormat    string // what it is taken for, "" for the volume's format
	As          string // AsFile, which is the default, or AsRaw: what of a volume that is an image is written
	DetectZeros bool
	Unpack      string         // of Packings: the form that it is packed in; "": it is not
	FromFormat  string         // which it is converted from to that of a new volume; "": it is put as it is, unless that is encrypted
	FromSecret  string         // name of the one that opens it then; "": none does
	Source      string         // POOL/VOLUME, whose content it is as a guest sees it; "": it is the client's
	Create      *CreateRequest // Name is the volume's; Capacity 0: that of the content
	Data        Data
	JobOptions
}

var _ interface {
	Request
	Carrier
	Maker
} = (*UploadRequest)(nil)

// File is what it comes from.
func (r *UploadRequest) File() *os.File { return r.Data.File }

// NewName is that of a new volume.
func (r *UploadRequest) NewName() (name string, ok bool) {
	if r.Create == nil {
		return "", false
	}
	return r.Create.Name, true
}

// Fill puts in what it leaves out.
func (r *UploadRequest) Fill() {
	r.JobOptions.Fill()
	r.As = cmp.Or(r.As, record.AsFile)
}

// Check refuses what no content can be.
func (r *UploadRequest) Check() error {
	if err := checkContent(r.Offset, r.Checksum); err != nil {
		return err
	}
	if r.Length != nil && *r.Length == 0 && r.Continues == "" {
		return record.Errorf(record.Invalid, "the content is empty: there is nothing to write")
	}
	if err := cmp.Or(r.checkBeginning(), checkFormat("as_format", r.AsFormat), checkAs(r.As), r.checkUnpack()); err != nil {
		return err
	}
	switch {
	case r.Create != nil:
		if err := r.checkCreate(); err != nil {
			return err
		}
	case r.FromFormat != "" || r.FromSecret != "":
		return record.Errorf(record.Invalid, "from_format is for a new volume: a content is not converted into one that is there")
	}
	return r.JobOptions.Check()
}

// CheckOfContent refuses what a new volume that is made of a content cannot have.
func (r *CreateRequest) CheckOfContent() error {
	if r.Backing != "" {
		return record.Errorf(record.Invalid, "a volume is made of a content, or stands on another, and not both")
	}
	return r.CheckRights()
}

// from is the format that a content is converted from, "" for one that is put as it is:
// what a secret encrypts is written, and is bytes of a disk unless somebody says more.
func (r *UploadRequest) from() string {
	if r.Create != nil && r.Create.Secret != "" {
		return cmp.Or(r.FromFormat, record.FormatRaw)
	}
	return r.FromFormat
}

func (r *UploadRequest) checkCreate() error {
	if err := cmp.Or(r.Create.CheckOfContent(), checkFormat("format", r.Create.Format), r.checkConversion()); err != nil {
		return err
	}
	switch c := r.Create; {
	case r.Offset != 0 || r.Continues != "":
		return record.Errorf(record.Invalid, "a new volume is made of a whole content")
	case r.As == record.AsRaw:
		return record.Errorf(record.Invalid, "as is for a volume that is there: of a new one the format says what the content is")
	case c.Capacity < 0:
		return record.Errorf(record.Invalid, "capacity must not be negative: %d", c.Capacity)
	case r.from() == "" && c.Capacity > 0 && !record.Plain(cmp.Or(r.AsFormat, c.Format, record.FormatRaw)):
		return record.Errorf(record.Invalid, "an image in format %s has its capacity in its header, and is put as it is", cmp.Or(r.AsFormat, c.Format)).
			WithHint("leave the size out")
	case (c.Allocation != nil && c.Allocation.Full || ReservesAll(c.Options)) && c.Capacity == 0 && r.Length == nil:
		return record.Errorf(record.Invalid, "nobody knows yet how long the stream is: a full allocation needs a capacity").WithHint("%s", sized)
	case c.Capacity > 0 && r.Length != nil && *r.Length > c.Capacity && (r.from() == "" || record.Plain(r.from())):
		return record.Errorf(record.TooLarge, "the content has %s, and the volume is to have %s", both(*r.Length), both(c.Capacity))
	}
	return checkNewName(r.Create.Name)
}

// sized says what to do where a content does not say how long the volume is to be.
var sized = record.Hintf("%s: say after the name how long the volume is to be", record.Do("volume.create", "POOL/NAME", "SIZE"))

// Packings are the forms of a packed content that are unpacked.
var Packings = []string{"gzip", "xz", "zstd"}

// CheckUnpack refuses a form that is not unpacked; "" is none.
func CheckUnpack(field, form string) error { return record.OneOf(field, form, append(Packings, "")...) }

// checkUnpack: nobody knows before how long what is in a packed content is, nor
// where in it a byte of the volume is.
func (r *UploadRequest) checkUnpack() error {
	if r.Unpack != "" && (r.Length != nil || r.Continues != "" || r.Data.Form == SparseForm && !r.Data.Dense) {
		return record.Errorf(record.Invalid, "what is unpacked is taken whole, from its start, and is no stream in the sparse form")
	}
	return CheckUnpack("unpack", r.Unpack)
}

// checkConversion refuses what cannot be converted, or is made with options that mean
// nothing where a content is put as it is.
func (r *UploadRequest) checkConversion() error {
	c, format, from := r.Create, cmp.Or(r.Create.Format, record.FormatRaw), r.from()
	image := !record.Plain(from)
	switch {
	case from == "" && len(c.Options) > 0 && !record.Plain(cmp.Or(r.AsFormat, format)):
		return record.Errorf(record.Invalid, "an image in format %s is put as it is: it has the options that it was made with", format).
			WithHint("%s makes a new one of it", record.Do("").With("from_format", format))
	case r.FromSecret != "" && !slices.Contains(Encrypted, from):
		return record.Errorf(record.Invalid, "from_secret opens a content that is converted, with from_format of %s", record.List(Encrypted, 10))
	case from == Encrypted[0] && r.FromSecret == "":
		return record.Errorf(record.Invalid, "a content in format %s needs a secret that opens it", from).WithHint("%s", record.Do("").With("from_secret", "NAME"))
	case from == "":
		return nil
	case r.AsFormat != "" && (r.FromFormat != "" || r.AsFormat != record.FormatRaw):
		return record.Errorf(record.Invalid, "as_format takes a content as it is, and from_format converts it: only one of them can be")
	case image && (r.Data.File != nil || r.Data.Form != "") && r.Data.Form != FileForm:
		return record.Errorf(record.Unsupported, "an image in format %s is read here and there, and cannot be converted from a stream", from).
			WithHint("name the file, instead of sending it; or put it into a volume in format %s, and clone that", from)
	case image && r.Unpack != "":
		return record.Errorf(record.Unsupported, "an image that is packed cannot be converted at once").
			WithHint("put what is in it into a volume in format %s, and clone that", from)
	case !image && !record.Plain(format) && c.Capacity == 0 && r.Length == nil:
		return record.Errorf(record.Invalid, "nobody knows yet how long the content is: a volume in format %s needs a capacity", format).WithHint("%s", sized)
	}
	a := c.Allocation
	_, err := CheckOptions(format, c.Options, a != nil && a.Full)
	return cmp.Or(checkFormat("from_format", from), checkFromSecret(r.FromSecret), CheckEncryption(format, c.Secret, c.Options), err)
}

func checkFromSecret(name string) error {
	if name == "" {
		return nil
	}
	return record.CheckNameOf("from_secret", name)
}

func (r *UploadRequest) checkBeginning() error {
	if r.Beginning == "" {
		return nil
	}
	_, digits, err := record.ParseContentChecksum(r.Beginning)
	switch {
	case err != nil:
		return record.Errorf(record.Invalid, "beginning: %v", err)
	case digits == "" || r.Continues == "":
		return record.Errorf(record.Invalid, "beginning is a checksum with its digits, of what continues has uploaded")
	}
	return nil
}

func checkContent(offset int64, checksum string) error {
	if offset < 0 {
		return record.Errorf(record.Invalid, "offset must not be negative: %d", offset)
	}
	if checksum == "" {
		return nil
	}
	if _, _, err := record.ParseContentChecksum(checksum); err != nil {
		return record.Errorf(record.Invalid, "%v", err)
	}
	return nil
}

// Plan refuses a content that does not fit, as far as that is known.
func (r *UploadRequest) Plan(k Known) (Operation, error) {
	c := Content{
		Form: r.Data.Form, Dense: r.Data.Dense, Length: r.Length, Exact: r.Exact, Checksum: r.Checksum, AsFormat: r.AsFormat, DetectZeros: r.DetectZeros,
		Unpack: r.Unpack,
	}
	switch {
	case r.Create != nil:
		return r.filled(k, c)
	case r.Source != "":
		return r.over(k)
	}
	v := k.Volume
	c.Format = v.Format
	view, err := k.view(r.As, record.VerbWrite)
	if err != nil {
		return nil, err
	}
	o := &Upload{Volume: k.On, View: view, Content: c, Capacity: v.Capacity, Offset: r.Offset, Beginning: r.Beginning}
	switch as := o.opens(v.Format); {
	case as && r.AsFormat != "" && r.AsFormat != record.FormatRaw:
		return nil, record.Errorf(record.Invalid, "the content of volume %s is raw bytes, whatever its format: it cannot be taken for one in format %s", record.Quoted(v.Pool, v.Name), r.AsFormat)
	case record.IsImage(v.Format) && !as:
		return o, r.replaces(v)
	case v.Format != record.FormatRaw && !as:
		return nil, record.Errorf(record.Unsupported, "uploading into volumes of format %q is not supported", v.Format)
	}
	room := v.Capacity - r.Offset
	if r.Length != nil && *r.Length > room || room < 0 {
		return nil, record.Errorf(record.TooLarge, "volume %s has %s, which ends before the content; nothing grows by an upload", record.Quoted(v.Pool, v.Name), both(v.Capacity)).
			WithHint("%s gives it another capacity", record.Do("volume.resize", v.Pool+"/"+v.Name, "SIZE"))
	}
	return o, nil
}

// over writes what a guest sees of another volume.
func (r *UploadRequest) over(k Known) (Operation, error) {
	v := k.Volume
	pool, name, _ := strings.Cut(r.Source, "/")
	from, err := k.Other(pool, name)
	switch {
	case err != nil:
		return nil, err
	case from.Pool == v.Pool && from.Name == v.Name:
		return nil, record.Errorf(record.Invalid, "volume %s would be written over itself", k.quoted())
	case v.Format != record.FormatRaw:
		return nil, record.Errorf(record.Unsupported, "volume %s is in format %s; only raw ones are written over by a clone", k.quoted(), v.Format)
	case from.Capacity > v.Capacity:
		return nil, record.Errorf(record.TooLarge, "volume %s has %s, and %s would need %s; nothing grows by a clone over it", k.quoted(), both(v.Capacity), record.Quoted(from.Pool, from.Name), both(from.Capacity)).
			WithHint("%s gives it another capacity, if its pool can", record.Do("volume.resize", k.name(), "SIZE"))
	}
	o := &Upload{Volume: k.On, Content: Content{Format: v.Format, Length: &v.Capacity}, Capacity: v.Capacity, Over: true}
	o.Chain, err = k.Under(pool, name)
	return o, err
}

// replaces refuses a part of the file of an image, which is none without the rest.
func (r *UploadRequest) replaces(v record.Volume) error {
	if r.Offset == 0 || r.Continues != "" {
		return nil
	}
	return record.Errorf(record.Unsupported, "volume %s is an image in format %s, whose file is replaced by another as a whole", record.Quoted(v.Pool, v.Name), v.Format).
		WithHint("%s writes a part of the content that a guest sees", record.Do("").With("as", record.AsRaw))
}

// filled makes a volume with the content.
func (r *UploadRequest) filled(k Known, c Content) (Operation, error) {
	c.Format, c.FromFormat = cmp.Or(r.AsFormat, r.Create.Format, record.FormatRaw), r.FromFormat
	if r.from() != "" { // what it is taken for says nothing of what it becomes
		c.Format = cmp.Or(r.Create.Format, record.FormatRaw)
	}
	full, allocation := ReservesAll(r.Create.Options), int64(0)
	if a := r.Create.Allocation; a != nil {
		full, allocation = full || a.Full, a.of(r.Create.Capacity)
	}
	if full {
		allocation = cmp.Or(r.Create.Capacity, deref(r.Length))
	}
	o := &Create{Volume: k.On, Content: c, solid: !k.Can.Sparse, Rights: r.Create.Rights, Capacity: r.Create.Capacity, Allocation: &allocation, Existing: Existing{r.Create.ExistOK, r.capacity(c.Format)}}
	o.Chain.Secret, o.FromSecret = r.Create.Secret, r.FromSecret
	if r.from() == "" && len(r.Create.Options) == 0 {
		return o, nil
	}
	if r.from() != "" {
		asked := o.Capacity
		if asked == 0 && record.Plain(r.from()) {
			asked = deref(r.Length)
		}
		o.Capacity, o.warnings = CapacityIn(c.Format, asked), rounded(c.Format, asked)
	}
	var err error
	o.Options, err = CheckOptions(c.Format, r.Create.Options, full)
	return o, cmp.Or(k.Can.CanMakeWith(c.Format, o.Options), err, checkThin(o.Options, allocation > 0))
}

// capacity is that of a new volume; nil where it is not known before the content is:
// how long a stream is, or what an image's header says.
func (r *UploadRequest) capacity(format string) *int64 {
	switch {
	case r.from() != "" && (r.Create.Capacity > 0 || record.Plain(r.from())):
		n := CapacityIn(format, cmp.Or(r.Create.Capacity, deref(r.Length)))
		if n == 0 {
			return nil
		}
		return &n
	case r.from() != "":
		return nil
	case r.Create.Capacity > 0:
		return &r.Create.Capacity
	case record.Plain(format):
		return r.Length
	}
	return nil
}
