package operation

import (
	"cmp"
	"fmt"
	"maps"
	"math/bits"
	"slices"
	"strconv"
	"strings"

	"storaged/internal/quantity"
	"storaged/internal/record"
)

// Formatted is embedded by operations that make a volume: the options of its format.
type Formatted struct {
	// Options are as its Creation names them, sizes in bytes.
	Options map[string]string `json:"options,omitempty"`
}

func (i *Formatted) flags() []Flag {
	return []Flag{{Name: "option", Usage: "an option of its format, as qemu-img(1) has them, or of its pool's type; may be repeated: `KEY=VALUE`", value: (*pairs)(&i.Options)}}
}

// pairs is a flag that is repeated for each key.
type pairs map[string]string

func (p *pairs) set(text string) error {
	key, value, ok := strings.Cut(text, "=")
	if !ok || key == "" {
		return record.Errorf(record.Invalid, "%.40q is no KEY=VALUE", text)
	}
	if *p == nil {
		*p = pairs{}
	}
	(*p)[key] = value
	return nil
}

func (p *pairs) texts() (all []string) {
	for _, key := range slices.Sorted(maps.Keys(*p)) {
		all = append(all, key+"="+(*p)[key])
	}
	return all
}

// Compression is the option that says how the content of a new image is
// compressed; "" and off: it is not.
const Compression = "compression"

// iterTime is the option that says how long a try of a secret takes.
const iterTime = "iter_time"

// iterTime is how many ms a try of the new volume's secret is to take; 0: nothing is
// said of that.
func (i *Formatted) iterTime() int64 {
	n, err := strconv.ParseInt(i.Options[iterTime], 10, 64)
	if err != nil { // there is none
		return 0
	}
	return n
}

// Preallocation is the option that says what of a new volume is reserved, and
// beside it how much is: nothing, or all.
const Preallocation = "preallocation"

// CheckOptions gives the options of a new volume with sizes in bytes. full says that
// all of it is to be reserved, which some formats are told by an option.
func CheckOptions(format string, given map[string]string, full bool) (map[string]string, error) {
	c, ok := record.CreationOf(format)
	if !ok {
		return nil, record.Errorf(record.Unsupported, "no volume is made in format %q, but of a content that is in it", format)
	}
	options := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		value, err := checkOption(c, optionName(name), given[name])
		if err != nil {
			return nil, err
		}
		if _, twice := options[optionName(name)]; twice {
			return nil, record.Errorf(record.Invalid, "option %s is given twice", optionName(name))
		}
		options[optionName(name)] = value
	}
	if err := cmp.Or(consistent(c, options), checkThin(options, full)); err != nil {
		return nil, err
	}
	return options, reserve(c, options, full)
}

// thinPool is the thin pool that options name, "" if they name none.
func thinPool(given map[string]string) string { return renamed(given)[record.OptionThinPool] }

// renamed are options by the names that they are known by.
func renamed(given map[string]string) map[string]string {
	options := map[string]string{}
	for name, value := range given {
		options[optionName(name)] = value
	}
	return options
}

// checkThin refuses to reserve anything of a volume that gets its storage as it is written.
func checkThin(options map[string]string, reserved bool) error {
	pool := thinPool(options)
	if pool == "" || !reserved && !ReservesAll(options) {
		return nil
	}
	return record.Errorf(record.Invalid, "nothing can be reserved for a thin volume: it gets its storage from thin pool %q as it is written", pool).
		WithHint("%s", record.Do("").With("allocation", "none"))
}

// optionName is the name of an option: those of encryption are given as qemu-img(1) has
// them, too.
func optionName(given string) string {
	return strings.ReplaceAll(strings.TrimPrefix(given, "encrypt."), "-", "_")
}

// BeginsAsZeros reports whether an empty volume in a format reads as zeros, and what one
// gets by growing. Where all is encrypted nobody can tell what is not written from what is.
func BeginsAsZeros(format string) bool { return format != Encrypted[0] }

// CheckEncryption refuses a secret where there is nothing to encrypt, none where there is,
// and options that go with the other case.
func CheckEncryption(format, secret string, given map[string]string) error {
	c, ok := record.CreationOf(format)
	switch {
	case !ok && secret == "": // which CheckOptions refuses, or nothing is made
		return nil
	case c.Encryption == record.EncryptionRequired && secret == "":
		return record.Errorf(record.Invalid, "a volume in format %s needs a secret that opens it", format).WithHint("%s", record.Do("").With("secret", "NAME"))
	case secret != "" && c.Encryption != record.EncryptionRequired && c.Encryption != record.EncryptionOptional:
		return record.Errorf(record.Invalid, "a volume in format %s is not encrypted; %s are", format, record.List(Encrypted, 10)).
			WithHint("%s or %s", record.Do("").With("format", Encrypted[0]), record.Do("").With("format", Encrypted[1]))
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		switch o, _ := c.Option(optionName(name)); {
		case o.Secret && secret == "":
			return record.Errorf(record.Invalid, "option %s of format %s is for a volume that is encrypted", o.Name, format).WithHint("%s", record.Do("").With("secret", "NAME"))
		case o.Name == Compression && secret != "" && given[name] != "off":
			return record.Errorf(record.Unsupported, "what is compressed is not encrypted: option %s excludes a secret", o.Name)
		}
	}
	if secret == "" {
		return nil
	}
	return record.CheckNameOf("secret", secret)
}

// checkOption gives the value of an option as its format has it.
func checkOption(c record.Creation, name, value string) (string, error) {
	o, ok := c.Option(name)
	if !ok {
		var names []string
		for _, o := range c.Options {
			names = append(names, o.Name)
		}
		if len(names) == 0 {
			return "", record.Errorf(record.Invalid, "format %s has no options", c.Format)
		}
		return "", record.Errorf(record.Invalid, "format %s has no option %q; it has %s", c.Format, name, record.List(names, len(names)))
	}
	if len(o.Values) > 0 {
		if slices.Contains(o.Values, value) {
			return value, nil
		}
		return "", record.Errorf(record.Invalid, "option %s of format %s is one of %s, not %s", name, c.Format, strings.Join(o.Values, ", "), record.Short(value))
	}
	if o.Names != "" {
		return value, record.CheckNameOf(o.Names, value)
	}
	if o.Unit != "" {
		if n, err := strconv.ParseInt(value, 10, 64); err != nil || n < o.Minimum || n > o.Maximum {
			return "", record.Errorf(record.Invalid, "option %s of format %s is from %d to %d %s, not %q", name, c.Format, o.Minimum, o.Maximum, o.Unit, value)
		}
		return value, nil
	}
	n, err := quantity.ParseSize(value)
	if err != nil || n < o.Minimum || n > o.Maximum || bits.OnesCount64(uint64(n)) != 1 {
		return "", record.Errorf(record.Invalid, "option %s of format %s is a power of two from %s to %s, not %q", name, c.Format,
			quantity.FormatBytes(o.Minimum), quantity.FormatBytes(o.Maximum), value)
	}
	return strconv.FormatInt(n, 10), nil
}

// consistent refuses options that exclude each other.
func consistent(c record.Creation, options map[string]string) error {
	if c.Format != "qcow2" {
		return nil
	}
	for name, newer := range map[string]bool{
		"lazy_refcounts": options["lazy_refcounts"] == "on", "extended_l2": options["extended_l2"] == "on", Compression: options[Compression] == "zstd",
		"refcount_bits": options["refcount_bits"] != "" && options["refcount_bits"] != "16",
	} {
		if newer && options["compat"] == "0.10" {
			return record.Errorf(record.Invalid, "option %s=%s of format qcow2 needs compat=1.1", name, options[name])
		}
	}
	const least = 16 << 10 // for parts of 512 bytes
	if size, err := strconv.ParseInt(options["cluster_size"], 10, 64); err == nil && size < least && options["extended_l2"] == "on" {
		return record.Errorf(record.Invalid, "option extended_l2 of format qcow2 needs clusters of %s at least", quantity.FormatBytes(least))
	}
	return nil
}

// reserve adds to the options what says that all is to be reserved, or refuses that.
func reserve(c record.Creation, options map[string]string, full bool) error {
	asked := options[Preallocation]
	switch {
	case ReservesAll(options) || full && asked == "metadata":
		full = true
	case full && asked == "off":
		return record.Errorf(record.Invalid, "an allocation of all and option preallocation=off exclude each other")
	}
	switch {
	case !full:
		return nil
	case !slices.Contains(c.Allocation, record.AllocateFull):
		return record.Errorf(record.Unsupported, "volumes in format %s cannot have all reserved: they grow as they are written", c.Format).
			WithHint("%s", record.Do("").With("allocation", "none"))
	}
	set, ok := fullBy[c.Format]
	switch {
	case !ok, options[set.option] == "full":
	case options[set.option] == "", options[set.option] == "metadata", options[set.option] == set.value:
		options[set.option] = set.value
	default:
		return record.Errorf(record.Invalid, "an allocation of all and option %s=%s exclude each other", set.option, options[set.option])
	}
	return nil
}

// ReservesAll reports whether options say that all of a volume is reserved.
func ReservesAll(options map[string]string) bool {
	return options[Preallocation] == "falloc" || options[Preallocation] == "full"
}

// fullBy are the options that say that all is to be reserved.
var fullBy = map[string]struct{ option, value string }{
	"qcow2": {Preallocation, "falloc"}, "vdi": {"static", "on"}, "vhdx": {"subformat", "fixed"}, "vpc": {"subformat", "fixed"},
}

// imageUnit is the unit of the capacity of an image, in bytes: a sector.
const imageUnit = 512

// rounded warns of a capacity that a volume in a format has not to the byte.
func rounded(format string, bytes int64) []string {
	has := CapacityIn(format, bytes)
	if has == bytes {
		return nil
	}
	return []string{fmt.Sprintf("a volume in format %s consists of sectors of %d bytes: its capacity will be %s, and not %s", format, imageUnit, both(has), both(bytes))}
}

// CapacityIn is the capacity that a volume of so many bytes has in a format.
func CapacityIn(format string, bytes int64) int64 {
	if record.Plain(format) {
		return bytes
	}
	return quantity.Sum(bytes, imageUnit-1) / imageUnit * imageUnit
}
