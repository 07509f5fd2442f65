package format

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

const (
	vmdkSparse = "KDMV" // a hosted sparse extent (VMware Virtual Disk Format 1.1)
	vmdkESX    = "COWD" // a "copy on write disk" of ESX
	vmdkText   = "# Disk DescriptorFile"

	vmdkGDAtEnd    = ^uint64(0) // the directory is where the footer says
	vmdkText0      = 512        // offset at which QEMU looks for the descriptor of a sparse extent
	vmdkTextSize   = 20 * sector
	maxVMDKText    = 512 << 10 // bytes of a descriptor that stands alone
	maxVMDKL1      = 32 << 20  // entries, QEMU's limit
	maxVMDKGrain   = 0x200000  // sectors, likewise
	esxEntries     = 4096      // of a table of ESX
	vmdkDeflate    = 1
	vmdkCompressed = 1 << 16 // of the flags
)

func isVMDK(s *source) bool {
	m := string(s.at(0, 4))
	return m == vmdkSparse || m == vmdkESX || magic(vmdkText, 0)(s) || isVMDKText(s)
}

// isVMDKText reports whether QEMU takes the beginning for a descriptor: behind
// comments and empty lines comes its version.
func isVMDKText(s *source) bool {
	const probed = 512 // bytes that QEMU looks at
	for line := range bytes.Lines(s.at(0, probed)) {
		text := strings.TrimRight(string(line), "\r\n")
		switch {
		case strings.HasPrefix(text, "version="):
			return len(text) == len("version=1") && text[8] >= '1' && text[8] <= '3' && line[len(line)-1] == '\n'
		case !strings.HasPrefix(text, "#") && strings.Trim(text, " ") != "":
			return false
		}
	}
	return false
}

func readVMDK(h *header) {
	if text, ok := h.vmdkAlone(); ok {
		h.vmdkParent(text)
		h.vmdkExtents(text)
		return
	}
	if string(h.at(0, 4)) == vmdkESX {
		readVMDKESX(h)
		return
	}
	readVMDKSparse(h)
}

// vmdkAlone is the descriptor of an image that is nothing else, whose content lies in
// other files. A sparse extent of no capacity is one too, as QEMU has it.
func (h *header) vmdkAlone() (text string, ok bool) {
	switch at := h.little64(28); {
	case string(h.at(0, 4)) == vmdkESX:
		return "", false
	case string(h.at(0, 4)) != vmdkSparse:
		return h.vmdkTextAt(0, maxVMDKText), true
	case h.little64(12) == 0 && at != 0:
		return h.vmdkTextAt(int64(min(at, 1<<50))*sector, vmdkTextSize), true
	}
	return "", false
}

// vmdkTextAt reads a descriptor.
func (h *header) vmdkTextAt(off int64, most int64) string {
	n := most
	if h.size >= 0 {
		n = min(n, max(h.size-off, 0))
	} else {
		n = min(n, max(h.read-off, 0))
	}
	text, _, _ := strings.Cut(string(h.at(off, int(n))), "\x00")
	if int64(len(text)) == most {
		h.bad("its descriptor has more than %d bytes", most)
	}
	return text
}

// readVMDKSparse reads a sparse extent with its embedded descriptor.
func readVMDKSparse(h *header) {
	at, first := h.little64(28), h.vmdkTextAt(vmdkText0, vmdkTextSize)
	if first == "" && (h.size < 0 || h.size > vmdkText0) {
		h.bad("it is a part of an image that another file describes")
	}
	h.vmdkParent(first)
	if at > 1 {
		h.vmdkParent(h.vmdkTextAt(int64(min(at, 1<<50))*sector, vmdkTextSize))
		h.bad("its descriptor is not behind its header but in sector %d", at)
	}
	h.Subformat, _ = vmdkField(first, "createType")
	h.vmdkSparse()
}

// vmdkSparse reads a sparse extent without its descriptor.
func (h *header) vmdkSparse() {
	h.vmdkHeader(0)
	if h.little64(56) == vmdkGDAtEnd {
		h.vmdkFooter()
	}
}

// InspectExtent reads the header of a file that has a part of an image in format vmdk,
// which another file describes.
func InspectExtent(f io.ReaderAt, size int64) (Image, error) {
	s, err := newSource(f, size)
	if err != nil {
		return Image{}, err
	}
	defer s.done()
	h := &header{source: s, Image: Image{Format: "vmdk"}, deep: scrutiny}
	switch {
	case string(h.at(0, 4)) != vmdkSparse:
		h.bad("it does not begin like a part of an image in format vmdk")
	case h.little64(12) == 0:
		h.bad("it has no content")
	}
	h.vmdkSparse()
	return h.end()
}

// vmdkFooter reads what streamOptimized images have at their end: a marker, a copy
// of the header that knows where the directory is, and another marker. QEMU
// takes its word for all of the header.
func (h *header) vmdkFooter() {
	const markers, footer = 3, 3 // the kinds of marker, and that of the footer
	if h.size < 0 {
		h.short = true
		return
	}
	at := h.size - markers*sector
	end := at + 2*sector
	if at < sector || h.little32(at+8) != 0 || h.little32(at+12) != footer || string(h.at(at+sector, 4)) != vmdkSparse ||
		h.little64(end) != 0 || h.little32(end+8) != 0 || h.little32(end+12) != 0 {
		h.bad("it has no footer where its header says there is one")
		return
	}
	at += sector
	if !bytes.Equal(h.at(at, 56), h.at(0, 56)) || h.little64(at+64) != h.little64(64) || h.little16(at+77) != h.little16(77) {
		h.bad("its footer says something else than its header")
	}
	h.vmdkDirectory(at)
}

// vmdkHeader checks the header of a sparse extent, or its copy in the footer.
func (h *header) vmdkHeader(at int64) {
	version, flags := h.little32(at+4), h.little32(at+8)
	h.Capacity, h.Compat = h.capacity(h.little64(at+12), sector), strconv.FormatUint(uint64(version), 10)
	if version < 1 || version > 3 {
		h.bad("version %d of format vmdk is not known", version)
	}
	if c := h.little16(at + 77); c > vmdkDeflate {
		h.bad("its method of compression is not known: %d", c)
	}
	if flags&vmdkCompressed != 0 && h.Subformat == "" {
		h.Subformat = "streamOptimized"
	}
	overhead := h.little64(at + 64)
	if !h.within(0, min(overhead, 1<<50)*sector) {
		h.bad("its overhead of %d sectors does not lie within the file", overhead)
	}
	h.vmdkDirectory(at)
}

// vmdkDirectory checks the directory of grain tables.
func (h *header) vmdkDirectory(at int64) {
	capacity, grain, entries, gd := h.little64(at+12), h.little64(at+20), uint64(h.little32(at+44)), h.little64(at+56)
	if grain == 0 || grain > maxVMDKGrain || entries == 0 || entries > 512 {
		h.bad("its grains of %d sectors and tables of %d entries cannot be", grain, entries)
		return
	}
	h.ClusterSize = int64(grain * sector)
	h.vmdkL1(blocks(capacity, grain*entries), gd, entries)
}

func (h *header) vmdkL1(n, gd, entries uint64) {
	if n > maxVMDKL1 {
		h.bad("its directory of %d tables is more than there can be", n)
	}
	if gd != vmdkGDAtEnd {
		h.table("directory of tables", min(gd, 1<<50)*sector, 4*min(n, maxVMDKL1))
		h.look = func(c *cutoff) { c.vmdk(gd*sector, n, entries) }
	}
}

// readVMDKESX reads the header of an extent of ESX.
func readVMDKESX(h *header) {
	grain, tables := uint64(h.little32(16)), uint64(h.little32(24))
	capacity := uint64(h.little32(12))
	h.Capacity, h.ClusterSize = h.capacity(capacity, sector), int64(grain*sector)
	h.Subformat = "vmfsSparse"
	h.vmdkParent(h.vmdkTextAt(vmdkText0, vmdkTextSize))
	if grain == 0 || grain > maxVMDKGrain || blocks(capacity, max(grain*esxEntries, 1)) > tables {
		h.bad("its grains of %d sectors and directory of %d tables cannot be", grain, tables)
	}
	h.vmdkL1(tables, uint64(h.little32(20)), esxEntries)
}

// vmdk looks at the directory and its tables, whose entries count sectors. A grain of 1 is
// one of zeros.
func (c *cutoff) vmdk(gd, n, entries uint64) {
	places := c.short(gd, n)
	for i := range places {
		places[i] *= sector
	}
	for _, at := range c.tables(places, ^uint64(0), 4*entries) {
		for _, grain := range c.short(at, entries) {
			if grain > 1 {
				c.names("a grain of its content", grain*sector, uint64(c.ClusterSize))
			}
		}
	}
}

// vmdkTypes are the kinds of image that QEMU reads by a descriptor alone.
var vmdkTypes = []string{"monolithicFlat", "vmfs", "vmfsSparse", "seSparse", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat"}

// vmdkPart is a line of a descriptor that tells an extent:
//
//	RW 8192 FLAT "disk-flat.vmdk" 0
type vmdkPart struct {
	access, kind string
	sectors      string
	name         string // of the file, "" where it needs none: an extent of zeros
	offset       string // in the file, sectors; "" where it says none
}

// vmdkPartOf reads a line, if it tells an extent.
func vmdkPartOf(line string) (p vmdkPart, ok bool) {
	f := strings.Fields(line)
	if len(f) < 3 || f[0] != "RW" && f[0] != "RDONLY" && f[0] != "NOACCESS" {
		return p, false
	}
	_, offset, _ := strings.Cut(strings.TrimPrefix(line, line[:max(0, strings.LastIndex(line, `"`))]), `"`)
	return vmdkPart{access: f[0], sectors: f[1], kind: f[2], name: vmdkExtent(line), offset: strings.TrimSpace(offset)}, true
}

// vmdkFormats are the formats of the files of extents, by their kinds.
var vmdkFormats = map[string]string{"FLAT": "raw", "VMFS": "raw", "SPARSE": "vmdk"}

// vmdkExtents reads the lines of a descriptor that tell the extents, which are
// other files.
func (h *header) vmdkExtents(text string) {
	kind, _ := vmdkField(text, "createType")
	if h.Subformat = kind; !slices.Contains(vmdkTypes, kind) {
		h.bad("images of type %q are not known", kind)
	}
	var sectors uint64
	for line := range strings.Lines(text) {
		p, ok := vmdkPartOf(line)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(p.sectors, 10, 40)
		if err != nil {
			h.bad("an extent has no size")
			n = 0
		}
		sectors += n
		if _, err := p.renamed(p.name); err != nil {
			h.bad("%v", err)
		}
		if p.name != "" {
			h.Data, h.DataFormats = append(h.Data, p.name), append(h.DataFormats, vmdkFormats[p.kind])
		}
		if len(h.Data) > maxNames {
			h.bad("it has more than %d extents", maxNames)
			break
		}
	}
	if h.Capacity = h.capacity(sectors, sector); len(h.Data) == 0 {
		h.bad("it has no extents")
	}
}

// Descriptor is that of a vmdk whose content lies in other files, with other names in the
// place of theirs, and nothing in it but what is understood here. Its errors say what of
// it is not.
func Descriptor(f io.ReaderAt, size int64, names []string) (string, error) {
	s, err := newSource(f, size)
	if err != nil {
		return "", err
	}
	defer s.done()
	h := &header{source: s, Image: Image{Format: "vmdk"}}
	text, ok := h.vmdkAlone()
	if !ok {
		return "", errors.New("its content lies in no other files")
	}
	h.vmdkParent(text)
	h.vmdkExtents(text)
	if i, err := h.end(); err != nil || i.Problem != "" {
		return "", cmp.Or(err, errors.New(i.Problem))
	}
	out := fmt.Sprintf("%s\nversion=1\nCID=%08x\nparentCID=%08x\ncreateType=\"%s\"\n", vmdkText, vmdkNumber(text, vmdkCID), vmdkNumber(text, vmdkParentCID), h.Subformat)
	for line := range strings.Lines(text) {
		p, ok := vmdkPartOf(line)
		if !ok {
			continue
		}
		if len(names) == 0 {
			return "", errors.New("it has more extents than files are given")
		}
		line, err := p.renamed(names[0])
		if err != nil {
			return "", err
		}
		out, names = out+line, names[1:]
	}
	if len(names) > 0 {
		return "", errors.New("it has fewer extents than files are given")
	}
	return out, nil
}

// renamed is the line with another name. Of other kinds QEMU makes what it wants: it leaves
// them out, and all that is behind is found before.
func (p vmdkPart) renamed(name string) (string, error) {
	offset, err := strconv.ParseUint(cmp.Or(p.offset, "0"), 10, 53)
	n, bad := strconv.ParseUint(p.sectors, 10, 40)
	switch {
	case p.name == "" || p.name == Unnamed || vmdkFormats[p.kind] == "" || p.access != "RW" || n == 0 || err != nil || bad != nil:
		return "", fmt.Errorf("its extent of kind %s, of %s sectors for %s, is not opened", strconv.Quote(p.kind), p.sectors, p.access)
	case p.kind == "FLAT":
		return fmt.Sprintf("RW %d FLAT \"%s\" %d\n", n, name, offset), nil
	case p.offset != "" && offset != 0:
		return "", fmt.Errorf("its extent of kind %s begins at %d", p.kind, offset)
	}
	return fmt.Sprintf("RW %d %s \"%s\"\n", n, p.kind, name), nil
}

// Fields of a descriptor.
const (
	vmdkCID       = "CID="
	vmdkParentCID = "parentCID="
)

// vmdkNumber is a number in a descriptor, hexadecimal, as QEMU reads it.
func vmdkNumber(text, field string) (n uint32) {
	_, rest, _ := strings.Cut(text, field)
	rest = strings.TrimLeft(rest, " \t")
	const digits = "0123456789abcdef"
	for _, c := range strings.ToLower(rest[:min(8, len(rest))]) {
		digit := strings.IndexRune(digits, c)
		if digit < 0 {
			break
		}
		n = n<<4 | uint32(digit)
	}
	return n
}

// vmdkExtent is the name of an extent's file, "" where it needs none: an extent
// of zeros.
func vmdkExtent(line string) string {
	_, rest, ok := strings.Cut(line, `"`)
	if !ok {
		return ""
	}
	name, _, ok := strings.Cut(rest, `"`)
	if !ok || name == "" || len(name) > maxName {
		return Unnamed
	}
	return name
}

// vmdkField finds a value in quotation marks in a descriptor.
func vmdkField(text, name string) (value string, ok bool) {
	_, rest, ok := strings.Cut(text, name+`="`)
	if !ok {
		return "", false
	}
	value, _, ok = strings.Cut(rest, `"`)
	if !ok || strings.Contains(value, "\x00") {
		return "", true
	}
	return value, true
}

// vmdkParent finds the parent's name in a descriptor, which has to say which
// content it is of.
func (h *header) vmdkParent(text string) {
	for _, field := range []string{vmdkCID, vmdkParentCID} {
		_, rest, _ := strings.Cut(text, field)
		if rest = strings.TrimLeft(rest, " \t"); rest == "" || !strings.Contains("0123456789abcdefABCDEF", rest[:1]) {
			h.bad("its descriptor has no %s", strings.TrimSuffix(field, "="))
		}
	}
	name, ok := vmdkField(text, "parentFileNameHint")
	if !ok || h.Backing != "" && h.Backing != Unnamed {
		return
	}
	h.BackingFormat = "vmdk"
	if h.Backing = name; name == "" || len(name) > maxName {
		h.Backing = Unnamed
		h.bad("the name of its parent cannot be")
	}
}
