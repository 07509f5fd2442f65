package record

import (
	"maps"
	"slices"
)

// Creation is how volumes in a format are made.
type Creation struct {
	Format string `json:"format"`
	// Unavailable says why none can be made on this host now, and what to install;
	// "": they can.
	Unavailable string           `json:"unavailable,omitempty"`
	Allocation  []string         `json:"allocation"` // of none, full and size: how much may be reserved
	Backing     bool             `json:"backing"`    // they can stand on other volumes, and be linked clones
	Encryption  string           `json:"encryption"` // by a secret: none, optional or required
	Options     []CreationOption `json:"options"`    // that may be given
}

// CreationOption is one of those with which an image is made.
type CreationOption struct {
	Name    string   `json:"name"`
	Values  []string `json:"values,omitempty"`  // it is one of these
	Minimum int64    `json:"minimum,omitempty"` // or else a number between both
	Maximum int64    `json:"maximum,omitempty"`
	Unit    string   `json:"unit,omitempty"`  // of the number: ms; "": bytes, and then it is a power of two
	Names   string   `json:"names,omitempty"` // or else the name of such a thing
	Default string   `json:"default"`
	Secret  bool     `json:"secret,omitempty"` // it is for a volume that a secret encrypts
	Pool    string   `json:"-"`                // type of the only pools that have it; "": all have it
	Effect  string   `json:"effect"`           // for people
}

// Whether a secret encrypts the volumes in a format.
const (
	EncryptionNone     = "none"
	EncryptionOptional = "optional"
	EncryptionRequired = "required"
)

// MaxIterTime is how many ms a try of a secret may take: a minute, which whoever opens
// the volume waits.
const MaxIterTime = 60000

// unitMS is a number of milliseconds.
const unitMS = "ms"

// encryption are the options of what a secret encrypts, by LUKS. Keys of 192 bits are
// left out: QEMU breaks off at them in most modes.
var encryption = []CreationOption{
	{Name: "cipher_alg", Values: []string{"aes-128", "aes-256", "serpent-128", "serpent-256", "twofish-128", "twofish-256"}, Default: "aes-256", Secret: true, Effect: "the cipher of the content"},
	{Name: "cipher_mode", Values: []string{"xts", "cbc"}, Default: "xts", Secret: true, Effect: "how the cipher is used"},
	{Name: "ivgen_alg", Values: []string{"plain", "plain64", "essiv"}, Default: "plain64", Secret: true, Effect: "how each sector is made to differ"},
	{Name: "hash_alg", Values: []string{"sha1", "sha256", "sha512"}, Default: "sha256", Secret: true, Effect: "the hash that makes a key of the secret"},
	{Name: "iter_time", Minimum: 1, Maximum: MaxIterTime, Unit: unitMS, Default: "2000", Secret: true, Effect: "how much processor time a try of the secret takes on this host, in ms"},
}

// How much of a new volume may be reserved.
const (
	AllocateNone = "none"
	AllocateFull = "full"
	AllocateSize = "size"
)

const (
	kib = 1 << 10
	mib = 1 << 20
)

var onOff = []string{"off", "on"}

// OptionThinPool is the option of a volume that gets its storage from a thin pool of LVM as it is
// written.
const OptionThinPool = "thin_pool"

// CreationsIn are those in pools of a type.
func CreationsIn(poolType string) []Creation {
	all := Creations()
	for i := range all {
		all[i].Options = slices.DeleteFunc(all[i].Options, func(o CreationOption) bool { return o.Pool != "" && o.Pool != poolType })
	}
	return all
}

// Creations are those of all formats that can be made. Names of options are those of
// qemu-img(1), where it has them, with _ for - and without "encrypt.".
func Creations() []Creation {
	all := []Creation{
		{Format: FormatRaw, Allocation: []string{AllocateFull, AllocateNone, AllocateSize}, Options: []CreationOption{
			{Name: "preallocation", Values: []string{"off", "falloc", "full"}, Default: "falloc", Effect: "reserve all of it; full writes zeros"},
			{Name: OptionThinPool, Names: "thin pool", Pool: "logical", Effect: "have a thin volume, which gets its storage from that thin pool of the volume group as it is written"},
		}},
		{Format: "qcow2", Allocation: []string{AllocateNone, AllocateFull, AllocateSize}, Backing: true, Encryption: EncryptionOptional, Options: append([]CreationOption{
			{Name: "preallocation", Values: []string{"off", "metadata", "falloc", "full"}, Default: "off", Effect: "make its tables, or reserve all of it too; full writes zeros"},
			{Name: "cluster_size", Minimum: 512, Maximum: 2 * mib, Default: "65536", Effect: "the unit in which it allocates"},
			{Name: "compat", Values: []string{"0.10", "1.1"}, Default: "1.1", Effect: "what programs can open it: 0.10 is for those of before 2013"},
			{Name: "lazy_refcounts", Values: onOff, Default: "off", Effect: "less to write, and to be repaired after a crash"},
			{Name: "extended_l2", Values: onOff, Default: "off", Effect: "allocate parts of a cluster"},
			{Name: "refcount_bits", Values: []string{"1", "2", "4", "8", "16", "32", "64"}, Default: "16", Effect: "how often a cluster may be shared"},
			{Name: "compression", Values: []string{"off", "zlib", "zstd"}, Default: "off", Effect: "compress the content that it is made with"},
		}, encryption...)},
		{Format: "vmdk", Allocation: []string{AllocateNone}, Options: []CreationOption{
			{Name: "adapter_type", Values: []string{"ide", "lsilogic", "buslogic", "legacyESX"}, Default: "ide", Effect: "the adapter that its descriptor names"},
			{Name: "hwversion", Values: []string{"4", "6", "10", "14", "19"}, Default: "4", Effect: "the version of virtual hardware that its descriptor names"},
			{Name: "zeroed_grain", Values: onOff, Default: "off", Effect: "note zeros without writing them"},
		}},
		{Format: "vdi", Allocation: []string{AllocateNone, AllocateFull}, Options: []CreationOption{
			{Name: "static", Values: onOff, Default: "off", Effect: "make all its blocks"},
		}},
		{Format: "vhdx", Allocation: []string{AllocateNone, AllocateFull}, Options: []CreationOption{
			{Name: "subformat", Values: []string{"dynamic", "fixed"}, Default: "dynamic", Effect: "grow as it is written, or be all there"},
			{Name: "block_size", Minimum: mib, Maximum: 256 * mib, Default: "", Effect: "the unit in which it allocates, by default as its capacity is"},
			{Name: "log_size", Minimum: mib, Maximum: 1024 * mib, Default: "1048576", Effect: "room for the log of changes"},
		}},
		{Format: "vpc", Allocation: []string{AllocateNone, AllocateFull}, Options: []CreationOption{
			{Name: "subformat", Values: []string{"dynamic", "fixed"}, Default: "dynamic", Effect: "grow as it is written, or be all there"},
		}},
		{Format: "qed", Allocation: []string{AllocateNone}, Options: []CreationOption{
			{Name: "cluster_size", Minimum: 4 * kib, Maximum: mib, Default: "65536", Effect: "the unit in which it allocates"},
			{Name: "table_size", Values: []string{"1", "2", "4", "8", "16"}, Default: "4", Effect: "clusters of a table"},
		}},
		{Format: "qcow", Allocation: []string{AllocateNone}, Options: []CreationOption{}},
		{Format: "luks", Allocation: []string{AllocateNone, AllocateFull, AllocateSize}, Encryption: EncryptionRequired, Options: append([]CreationOption{
			{Name: "preallocation", Values: []string{"off", "falloc"}, Default: "off", Effect: "reserve all of it"},
		}, encryption...)},
	}
	for i := range all {
		if all[i].Encryption == "" {
			all[i].Encryption = EncryptionNone
		}
	}
	return all
}

// CreationOf is that of a format; ok is false where none can be made.
func CreationOf(format string) (c Creation, ok bool) {
	all := Creations()
	i := slices.IndexFunc(all, func(c Creation) bool { return c.Format == format })
	if i < 0 {
		return c, false
	}
	return all[i], true
}

// Option is the one of that name.
func (c Creation) Option(name string) (o CreationOption, ok bool) {
	i := slices.IndexFunc(c.Options, func(o CreationOption) bool { return o.Name == name })
	if i < 0 {
		return o, false
	}
	return c.Options[i], true
}

// OfPool are the options that only pools of a type have.
func (c Creation) OfPool(options map[string]string) map[string]string {
	own := map[string]string{}
	for name, value := range options {
		if o, ok := c.Option(name); ok && o.Pool != "" {
			own[name] = value
		}
	}
	return own
}

// CanMakeWith refuses a format, and options that only pools of other types have.
func (c Capabilities) CanMakeWith(format string, options map[string]string) error {
	if err := c.CanMake(format); err != nil {
		return err
	}
	made, _ := CreationOf(format)
	for _, name := range slices.Sorted(maps.Keys(options)) {
		if o, ok := made.Option(name); ok && o.Pool != "" && o.Pool != c.Type {
			return Errorf(Unsupported, "option %s is for volumes in pools of type %s, and not of type %s", name, o.Pool, c.Type)
		}
	}
	return nil
}

// CanMake refuses a format that volumes of the type cannot be made in.
func (c Capabilities) CanMake(format string) error {
	if slices.Contains(c.Formats, format) {
		return nil
	}
	i := slices.IndexFunc(c.Creations, func(c Creation) bool { return c.Format == format })
	if i >= 0 && c.Creations[i].Unavailable != "" {
		return Errorf(Unsupported, "no volume in format %s can be made now: %s", format, c.Creations[i].Unavailable)
	}
	return Errorf(Unsupported, "format %q cannot be made in pools of type %s; they can hold %s", format, c.Type, List(c.Formats, 10))
}
