// Package format knows image formats: what the header of an image says of it, and
// whether that may be believed by somebody who opens it.
//
// It works on bytes only: images are hostile, and nothing they name is ever
// followed or opened. It imports nothing of ours.
package format

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// HeadSize is how much of the beginning of a content tells its format and the
// names in the headers of most, bytes.
const HeadSize = 64 << 10

// Unnamed stands for a file whose name the header does not show.
const Unnamed = "?"

const (
	maxCapacity = 1 << 61 // bytes; no format can hold more, a larger figure is a lie
	maxName     = 1023    // bytes of a name, qcow2's limit
	maxNames    = 2000    // extents of one image; a vmdk of 2 TiB in files of 2 GiB has 1024
	sector      = 512
)

// Image is what the header of an image claims. Nothing in it is to be believed
// of an image that a guest could write: what a name means is looked at by whoever
// knows the pools, and opened by nobody who was not asked to.
type Image struct {
	Format   string // QEMU's name for it, and iso; raw if nothing else is recognised
	Capacity int64  // bytes that a guest sees; 0 where the header does not say
	Backing  string // the bytes of the backing image's name, Unnamed, or "" without one
	// BackingFormat is the format that the header declares for the backing image,
	// "" where it declares none, so that QEMU would probe it.
	BackingFormat string
	// Data are the names of other files that hold the image's content, as Backing
	// is one: the data file of a qcow2, the extents of a vmdk.
	Data []string
	// DataFormats are the formats in which those are, in the same order: raw, or vmdk as
	// InspectExtent has it; "" is one that is not known.
	DataFormats []string
	Encryption  string   // luks or aes; "" is none
	ClusterSize int64    // bytes of the unit of allocation; 0 where there is none
	Compat      string   // version of the format, as QEMU's option compat where it has that
	Subformat   string   // dynamic, fixed, streamOptimized, …; "" where the format has but one
	Features    []string // of a qcow2 or qed, by the names that their specifications give
	Snapshots   int64    // that the image itself has
	Partitions  string   // gpt or mbr, of what is raw or iso; "" for none
	// Problem says why the image must not be opened as one, "" if it may: it is in
	// two formats at once, asks for what is not known, or its tables cannot be.
	Problem string
	// Twofold says that the problem is nothing but that it is two things at once, which
	// is none for who knows which of them it is.
	Twofold bool
	// Cut is how many bytes the file should have at least, if the problem is nothing but
	// that it has less; 0: it is not that.
	Cut int64
	// Also are the other formats that it begins like: who knows that it is one of
	// those reads it by InspectAs.
	Also []string
}

// DataFormat is the format of the file of that index, "" where it is not known.
func (i Image) DataFormat(n int) string {
	if n >= len(i.DataFormats) {
		return ""
	}
	return i.DataFormats[n]
}

// known is a format. Names are QEMU's, and iso, which libvirt tells apart from
// raw.
type known struct {
	name string
	is   func(s *source) bool
	read func(h *header)
}

// formats are tried in this order.
var formats = []known{
	{"qcow", isQcow1, readQcow1},
	{"qcow2", isQcow2, readQcow2},
	{"qed", magic("QED\x00", 0), readQED},
	{"vmdk", isVMDK, readVMDK},
	{"vhdx", magic("vhdxfile", 0), readVHDX},
	{"vpc", magic(vpcMagic, 0), readVPC},
	{"luks", isLUKS1, readLUKS},
	{"parallels", isParallels, readParallels},
	{"vdi", magic("\x7f\x10\xda\xbe", 64), readVDI},
	{"vpc", isFixedVPC, readFixedVPC},
	{"iso", magic("CD001", 32769), readPlain},
}

// magic is a test for bytes at an offset.
func magic(text string, at int64) func(s *source) bool {
	return func(s *source) bool { return string(s.at(at, len(text))) == text }
}

// header is an image as it is being read.
type header struct {
	*source
	Image
	look func(c *cutoff) // at the tables; nil: there are none that say where content lies
	deep int64           // bytes of them that are looked at in any case
}

// bad says what is wrong with the image; what was found first counts.
func (h *header) bad(text string, args ...any) {
	if h.Problem == "" {
		h.Problem = fmt.Sprintf(text, args...)
	}
}

// Inspect tells the format of the image that f holds, and what its header says.
// size is the length of f, bytes; -1: it is not known, and f may be the beginning
// only: nothing is said then of what would lie behind. Of f one MiB is read at
// most, and more where tables may name what lies behind its end, as Scrutinize has it.
// What is not recognised is raw. An error is one of f's.
func Inspect(f io.ReaderAt, size int64) (Image, error) {
	s, err := newSource(f, size)
	if err != nil {
		return Image{}, err
	}
	defer s.done()
	var found []known
	for _, k := range formats {
		if k.is(s) {
			found = append(found, k)
		}
	}
	if len(found) == 0 {
		found = []known{{"raw", nil, readPlain}}
	}
	s.short = false // they were looked for at many places
	h := &header{source: s, Image: Image{Format: found[0].name}}
	found[0].read(h)
	h.single(found)
	return h.end()
}

// InspectAs reads the header of an image whose format is known already. What else
// it looks like does not matter then: a guest may have written that.
func InspectAs(f io.ReaderAt, size int64, format string) (Image, error) {
	return inspectAs(f, size, format, 0)
}

func inspectAs(f io.ReaderAt, size int64, format string, deep int64) (Image, error) {
	s, err := newSource(f, size)
	if err != nil {
		return Image{}, err
	}
	defer s.done()
	h := &header{source: s, Image: Image{Format: format}, deep: deep}
	if format == "raw" || format == "iso" {
		readPlain(h)
		return h.end()
	}
	for _, k := range formats {
		if k.name == format && k.is(s) {
			k.read(h)
			return h.end()
		}
	}
	h.bad("it does not begin like an image in format %s", format)
	return h.end()
}

// end gives what was read.
func (h *header) end() (Image, error) {
	if h.spent {
		h.bad("its header is spread over more than %d KiB", budget>>10)
	}
	if h.size < 0 && h.short { // what there is of it says nothing wrong
		h.Problem, h.Twofold = "", false
	}
	h.cutOff()
	return h.Image, h.err
}

// single refuses what is in more than one format: whoever takes it for another
// than we do opens something else. A CD image, or a fixed VHD of one, may well have a
// partition table.
func (h *header) single(found []known) {
	plain := h.Format == "raw" || h.Format == "iso"
	var also []string
	for _, k := range found[1:] {
		if k.name != h.Format && !slices.Contains(h.Also, k.name) {
			h.Also = append(h.Also, k.name)
		}
		if h.Format != "vpc" || h.Subformat != fixed || k.name != "iso" {
			also = append(also, k.name)
		}
	}
	for _, m := range marks {
		switch {
		case !m.is(h.source):
		case plain && m.partitions && h.Partitions == "":
			h.Partitions = m.name
		case !plain && h.Subformat != fixed && !m.ours(h.Image):
			also = append(also, m.name)
		}
	}
	if len(also) > 0 {
		h.Twofold = h.Problem == ""
		h.bad("it is two things at once: an image in format %s, and %s", h.Format, strings.Join(also, " and "))
	}
}

// name reads the n bytes of a name at off.
func (h *header) name(what string, off, n uint64) string {
	if n == 0 || n > maxName || !h.within(off, n) {
		h.bad("the name of its %s, %d bytes at %d, cannot be there", what, n, off)
		return Unnamed
	}
	before := h.short
	h.short = false
	b := h.at(int64(off), int(n))
	if h.short { // of a beginning
		return Unnamed
	}
	h.short = before
	return h.text(what, string(b))
}

// text is a name as QEMU takes it, which ends at a byte of 0.
func (h *header) text(what, name string) string {
	before, _, ok := strings.Cut(name, "\x00")
	if ok {
		h.bad("the name of its %s has a byte of 0 in it", what)
	}
	if before == "" || len(before) > maxName {
		h.bad("the name of its %s has %d bytes", what, len(before))
		return Unnamed
	}
	return before
}

// capacity is n units in bytes.
func (h *header) capacity(n, unit uint64) int64 {
	if n > maxCapacity/unit {
		h.bad("its capacity, %d times %d bytes, is more than there can be", n, unit)
		return 0
	}
	return int64(n * unit)
}

// maxTable is how long a table may be, bytes: whoever opens the image has it in
// memory, and a file with holes has room for any. It is twice what a vhdx of 64
// TiB has that is made by default.
const maxTable = 128 << 20

// table refuses a table that does not lie within the file.
func (h *header) table(what string, off, n uint64) {
	if n > maxTable {
		h.bad("its %s has %d bytes, more than the %d that are opened", what, n, maxTable)
	}
	if !h.within(off, n) {
		h.bad("its %s, %d bytes at %d, does not lie within the file", what, n, off)
	}
}
