package virtxml

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"storaged/internal/operation"
	"storaged/internal/record"
)

// Volume is a volume as libvirt describes it. Sizes are bytes.
type Volume struct {
	Type       string // file, block, dir, network or netdir
	Name       string
	Key        string
	Devices    []Device // of which it is made: written only
	Capacity   *int64   // nil: none is said
	Allocation *int64   // nil: none is said
	Physical   int64    // length of its file; 0: not known
	Target     Target
	Backing    *Target // nil: it stands on nothing
}

// Target is a file or device with the content of a volume, or the one that it stands on.
type Target struct {
	Path        string
	Format      string
	Permissions Permissions
	Times       *Times
	Encryption  *Encryption
	Compat      string // of a qcow2: the version of QEMU that can open it
	ClusterSize int64  // bytes; 0: none is said
	NoCOW       bool   // it is to be without copy on write, where the file system has that
	Features    []string
	HasFeatures bool // something is said of them, if only that there are none
}

// Times are those of a file. The zero time is not known.
type Times struct{ Accessed, Modified, Changed, Born time.Time }

// features of a qcow2, in the order in which they are written.
var features = []string{"lazy_refcounts", "extended_l2"}

// volumeTypes are the values of the root's attribute.
var volumeTypes = []string{"file", "block", "dir", "network", "netdir", "ploop"}

// ParseVolume reads the document of a volume of a pool of a type. Refusals are of type
// *Error.
func ParseVolume(doc []byte, pool string) (v Volume, err error) {
	t, _ := poolTypeOf(pool)
	e, err := document(doc, "storage_volume_definition", "volume")
	if err != nil {
		return v, err
	}
	v = Volume{Name: e.of("name"), Key: e.of("key"), Type: e.attr("type")}
	switch {
	case v.Name == "":
		return v, refuse(Wrong, "missing volume name element")
	case strings.Contains(v.Name, "/"):
		return v, refuse(Invalid, "volume name '%s' cannot contain '/'", v.Name)
	case v.Type != "" && !slices.Contains(volumeTypes, v.Type):
		return v, refuse(Unsupported, "unknown volume type '%s'", v.Type)
	}
	if v.Backing, err = t.backingOf(e.child("backingStore")); err != nil {
		return v, err
	}
	if err := v.sizes(e); err != nil {
		return v, err
	}
	v.Target, err = t.targetOf(e.child("target"))
	return v, err
}

// backingOf reads what a volume stands on. Without a path it stands on nothing.
func (t poolType) backingOf(e *element) (*Target, error) {
	b := &Target{Path: e.of("path")}
	if b.Path == "" {
		return nil, nil
	}
	var err error
	if b.Format, err = t.ofVolume(e.child("format").attr("type")); err != nil {
		return nil, err
	}
	b.Permissions, err = permissionsOf(e.child("permissions"))
	return b, err
}

func (v *Volume) sizes(e *element) error {
	capacity, ok, err := sizeOf(e.child("capacity"))
	if err != nil {
		return err
	}
	if ok {
		v.Capacity = &capacity
	}
	allocation, ok, err := sizeOf(e.child("allocation"))
	if ok {
		v.Allocation = &allocation
	}
	return err
}

func (t poolType) targetOf(e *element) (x Target, err error) {
	x.Path = e.of("path")
	if x.Format, err = t.ofVolume(e.child("format").attr("type")); err != nil {
		return x, err
	}
	if x.Permissions, err = permissionsOf(e.child("permissions")); err != nil {
		return x, err
	}
	if x.Encryption, err = encryptionOf(e.child("encryption")); err != nil {
		return x, err
	}
	x.NoCOW = e.child("nocow") != nil
	return x, x.image(e)
}

// image reads what only images have.
func (x *Target) image(e *element) (err error) {
	x.Compat = e.of("compat")
	if !isVersion(x.Compat) {
		return refuse(Wrong, "forbidden characters in 'compat' attribute")
	}
	if c := e.child("clusterSize"); c != nil {
		n, err := strconv.ParseUint(c.text, 10, 64)
		if err != nil {
			return refuse(Shape, "Invalid value '%s' for element or attribute './target/clusterSize'", c.text)
		}
		if x.ClusterSize, err = scaled(n, c.attr("unit")); err != nil {
			return err
		}
	}
	f := e.child("features")
	if f == nil {
		return nil
	}
	x.HasFeatures, x.Compat = true, cmp.Or(x.Compat, "1.1")
	for _, c := range f.children {
		if !slices.Contains(features, c.name) {
			return refuse(Unsupported, "unsupported feature %s", c.name)
		}
		x.Features = append(x.Features, c.name)
	}
	return nil
}

// isVersion reports whether a text is two numbers with a point between, or nothing.
func isVersion(text string) bool {
	major, minor, ok := strings.Cut(text, ".")
	return text == "" || ok && isNumber(major) && isNumber(minor)
}

func isNumber(text string) bool {
	_, err := strconv.ParseUint(text, 10, 32)
	return err == nil
}

// Format writes the document.
func (v Volume) Format() string {
	w := &writer{}
	w.with("volume", func() {
		w.text("name", v.Name)
		w.text("key", v.Key)
		if len(v.Devices) > 0 {
			w.with("source", func() { writeDevices(w, v.Devices) })
		}
		w.bytes("capacity", deref(v.Capacity))
		w.bytes("allocation", deref(v.Allocation))
		if v.Physical != 0 {
			w.bytes("physical", v.Physical)
		}
		v.Target.write(w, "target")
		if v.Backing != nil {
			v.Backing.write(w, "backingStore")
		}
	}, attr("type", cmp.Or(v.Type, "file")))
	return w.String()
}

func deref(n *int64) int64 {
	if n == nil {
		return 0
	}
	return *n
}

func (x Target) write(w *writer, name string) {
	w.with(name, func() {
		w.text("path", x.Path)
		w.named("format", "type", x.Format)
		x.Permissions.write(w)
		x.Times.write(w)
		x.Encryption.write(w)
		w.text("compat", x.Compat)
		if x.ClusterSize > 0 {
			w.number("clusterSize", x.ClusterSize, attr("unit", "B"))
		}
		x.writeFeatures(w)
	})
}

func (x Target) writeFeatures(w *writer) {
	switch {
	case len(x.Features) > 0:
		w.with("features", func() {
			for _, f := range features {
				if slices.Contains(x.Features, f) {
					w.empty(f)
				}
			}
		})
	case x.HasFeatures:
		w.empty("features")
	}
}

func (t *Times) write(w *writer) {
	if t == nil {
		return
	}
	w.with("timestamps", func() {
		w.text("atime", stamp(t.Accessed))
		w.text("mtime", stamp(t.Modified))
		w.text("ctime", stamp(t.Changed))
		w.text("btime", stamp(t.Born))
	})
}

// stamp is a time in seconds, with nanoseconds if there are any; 0 is not known.
func stamp(t time.Time) string {
	switch {
	case t.IsZero():
		return "0"
	case t.Nanosecond() == 0:
		return fmt.Sprint(t.Unix())
	}
	return fmt.Sprintf("%d.%09d", t.Unix(), t.Nanosecond())
}

// Formats and options of ours, for what libvirt says in other words.
const (
	formatLUKS     = "luks"
	formatExtended = "extended"
	optionCluster  = "cluster_size"
	optionCompat   = "compat"
	oldCompat      = "0.10" // of images that have no features
	optionOn       = "on"
	typeFile       = "file"
	encryptionLUKS = "luks"
)

// OurFormat is the format in our words: libvirt calls an encrypted raw volume raw.
func (x Target) OurFormat() string {
	switch {
	case x.Encryption != nil && x.Format == record.FormatRaw:
		return formatLUKS
	case x.Format == "":
		return record.FormatRaw // where volumes have no formats
	case x.Format != formatExtended && slices.Contains(partFormats, x.Format):
		return record.FormatRaw // what a partition is to be for changes nothing of it
	}
	return x.Format
}

// Options are those with which an image is made as the document says.
func (x Target) Options() map[string]string {
	options := map[string]string{}
	if x.Encryption != nil {
		options = x.Encryption.options()
	}
	if x.OurFormat() != "qcow2" {
		return options
	}
	if x.Compat != "" {
		options[optionCompat] = x.Compat
	}
	if x.ClusterSize != 0 {
		options[optionCluster] = fmt.Sprint(x.ClusterSize)
	}
	for _, f := range x.Features {
		options[f] = optionOn
	}
	return options
}

// Create asks for the volume that the document describes. What it stands on, and the
// secret that opens it, are named in words that need a catalog: they are left out.
func (v Volume) Create() (operation.CreateRequest, error) {
	if v.Capacity == nil && v.Backing == nil {
		return operation.CreateRequest{}, refuse(Wrong, "missing capacity element")
	}
	r := operation.CreateRequest{Name: v.Name, Capacity: deref(v.Capacity), Format: v.Target.OurFormat(), Options: v.Target.Options(), Rights: v.Target.Permissions.Rights()}
	if r.Format == record.FormatRaw && v.Target.Format == record.FormatRaw {
		r.Allocation = v.reserved()
	}
	return r, nil
}

// reserved is how much of a raw volume is to be there at once: all, where nothing is said.
// More than all is no more.
func (v Volume) reserved() *operation.Allocation {
	if v.Allocation == nil || *v.Allocation >= deref(v.Capacity) {
		return &operation.Allocation{Full: true}
	}
	return &operation.Allocation{Bytes: *v.Allocation}
}

// OfVolume describes a volume. Of what it stands on Stand says more.
func OfVolume(r record.Volume) Volume {
	v := Volume{Type: cmp.Or(r.Type, typeFile), Name: r.Name, Key: r.Key, Capacity: &r.Capacity, Allocation: &r.Allocation, Physical: r.Length}
	for _, x := range r.Extents {
		v.lies(x)
	}
	v.Target = Target{Path: r.Path, Format: r.Format, Permissions: permissionsFrom(r.Permissions), Times: timesFrom(r.Times)}
	if r.Format == formatLUKS {
		v.Target.Format = record.FormatRaw
	}
	if r.Format == formatLUKS || r.Secret != "" {
		v.Target.Encryption = encryptedBy(r.Secret)
	}
	v.Target.made(r.Options)
	switch {
	case r.Parent != nil:
		v.Backing = &Target{Path: r.Parent.Path, Format: r.Parent.Format}
	case r.Backing != "":
		v.Backing = &Target{Path: r.Backing, Format: record.FormatRaw}
	}
	return v
}

// lies adds where the volume lies.
func (v *Volume) lies(x record.Extent) {
	if n := len(v.Devices); n == 0 || v.Devices[n-1].Path != x.Device {
		v.Devices = append(v.Devices, Device{Path: x.Device})
	}
	d := &v.Devices[len(v.Devices)-1]
	d.Used = append(d.Used, Extent{x.Start, x.End})
}

// In says it as of a volume in pools of a type: where their volumes are in no formats of images
// libvirt says another word for raw, or none.
func (v *Volume) In(pool string) {
	if t, ok := poolTypeOf(pool); ok && v.Target.Format == record.FormatRaw {
		v.Target.Format = t.volume
	}
}

// Stand says more of what the volume stands on, which is the other.
func (v *Volume) Stand(other record.Volume) {
	if v.Backing != nil {
		v.Backing.Permissions, v.Backing.Times = permissionsFrom(other.Permissions), timesFrom(other.Times)
	}
}

// made puts in with which options an image is made.
func (x *Target) made(options map[string]string) {
	if len(options) == 0 {
		return
	}
	x.Compat = options[optionCompat]
	x.ClusterSize, _ = strconv.ParseInt(options[optionCluster], 10, 64) // 0: it does not say
	x.HasFeatures = x.Compat != oldCompat
	for _, f := range features {
		if options[f] == optionOn {
			x.Features = append(x.Features, f)
		}
	}
}

func permissionsFrom(r *record.Permissions) (p Permissions) {
	if r == nil {
		return p
	}
	if mode, err := strconv.ParseUint(r.Mode, 8, 32); err == nil {
		p.Mode = new(uint32(mode) & 0o777)
	}
	p.Owner, p.Group, p.Label = &r.Owner, &r.Group, r.Label
	return p
}

// permissionsIn are those that something is to have.
func permissionsIn(r record.Rights) Permissions {
	mode, _ := r.ModeBits()
	return Permissions{Mode: mode, Owner: r.Owner, Group: r.Group, Label: r.Label}
}

func timesFrom(r *record.Times) *Times {
	if r == nil {
		return nil
	}
	return &Times{Accessed: timeOf(r.Accessed), Modified: timeOf(r.Modified), Changed: timeOf(r.Changed), Born: timeOf(r.Born)}
}

func timeOf(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}
