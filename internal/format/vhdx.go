package format

import (
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"maps"
	"slices"
	"strings"
	"unicode/utf16"
)

// guid is how a file has a UUID: three numbers are little-endian.
type guid [16]byte

func uuid(text string) (g guid) {
	b, err := hex.DecodeString(strings.ReplaceAll(text, "-", ""))
	if err != nil || len(b) != len(g) {
		panic("internal error: bad UUID " + text)
	}
	slices.Reverse(b[0:4])
	slices.Reverse(b[4:6])
	slices.Reverse(b[6:8])
	return guid(b)
}

// Regions and items of a VHDX ([MS-VHDX]).
var (
	vhdxBAT      = uuid("2DC27766-F623-4200-9D64-115E9BFD4A08")
	vhdxMetadata = uuid("8B7CA206-4790-4B9A-B8FE-575F050F886E")

	vhdxFileParameters = uuid("CAA16737-FA36-4D43-B3B6-33F0AA44E76B")
	vhdxDiskSize       = uuid("2FA54224-CD1B-4876-B211-5DBED83BF4B8")
	vhdxPage83         = uuid("BECA12AB-B2E6-4523-93EF-C309E000C746")
	vhdxLogicalSector  = uuid("8141BF1D-A96F-4709-BA47-F233A8FAAB5F")
	vhdxPhysicalSector = uuid("CDA348C7-445D-4471-9CC9-E9885251C556")
	vhdxParentLocator  = uuid("A8D35F2D-B30B-454D-ABF7-D3D84834AB0C")
)

const (
	vhdxHeaders    = 64 << 10  // offset of the first; the second follows at as much
	vhdxHeaderSize = 4 << 10   // bytes
	vhdxRegions    = 192 << 10 // offset
	vhdxTableSize  = 64 << 10  // bytes of the tables of regions and of metadata
	vhdxEntries    = 2047      // most of either
	vhdxMaxSize    = 64 << 40  // bytes
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// vhdxSound reports whether b has the signature, and the checksum at 4, which is
// made with zeros in its place.
func vhdxSound(b []byte, signature string) bool {
	if string(b[:4]) != signature {
		return false
	}
	sum := crc32.Update(0, castagnoli, b[:4])
	sum = crc32.Update(sum, castagnoli, make([]byte, 4))
	return crc32.Update(sum, castagnoli, b[8:]) == binary.LittleEndian.Uint32(b[4:])
}

// span is a part of a file.
type span struct{ off, n uint64 }

// readVHDX finds the capacity, which lies in the metadata: the table of regions
// leads to the table of metadata, and that to the items.
func readVHDX(h *header) {
	log := h.vhdxHeader()
	regions, ok := h.vhdxTable(span{vhdxRegions, vhdxTableSize}, vhdxRegionTable)
	if !ok {
		return
	}
	h.vhdxApart(append(slices.Collect(maps.Values(regions)), log))
	bat, metadata := regions[vhdxBAT], regions[vhdxMetadata]
	if bat.n == 0 || metadata.n < vhdxTableSize {
		h.bad("it has no table of blocks, or no metadata")
		return
	}
	items, ok := h.vhdxTable(metadata, vhdxItemTable)
	if !ok {
		return
	}
	for id, item := range items { // their offsets are from the start of the metadata
		if item.off > metadata.n || item.n > metadata.n-item.off {
			h.bad("an item of its metadata, %d bytes at %d, cannot be", item.n, item.off)
			return
		}
		item.off += metadata.off
		items[id] = item
	}
	h.vhdxItems(items, bat)
}

// vhdxApart refuses regions that are not apart, or not in whole MiB behind the
// first, where the header is.
func (h *header) vhdxApart(regions []span) {
	slices.SortFunc(regions, func(a, b span) int { return cmp.Compare(a.off, b.off) })
	end := uint64(1 << 20)
	for _, r := range regions {
		if r.off < end || r.n == 0 || (r.off|r.n)&(1<<20-1) != 0 {
			h.bad("a region, %d bytes at %d, cannot be there", r.n, r.off)
			return
		}
		end = r.off + r.n
	}
}

// vhdxHeader looks at the two headers, of which the newer that is sound counts, and
// gives where the log is.
func (h *header) vhdxHeader() (log span) {
	var newest uint64
	var found, dirty, odd bool
	for i := range int64(2) {
		b := h.at((i+1)*vhdxHeaders, vhdxHeaderSize)
		if !vhdxSound(b, "head") || binary.LittleEndian.Uint16(b[66:]) != 1 {
			continue
		}
		if sequence := binary.LittleEndian.Uint64(b[8:]); !found || sequence > newest {
			newest, found = sequence, true
			dirty, odd = guid(b[48:64]) != guid{}, b[64] != 0 || b[65] != 0
			log = span{binary.LittleEndian.Uint64(b[72:]), uint64(binary.LittleEndian.Uint32(b[68:]))}
		}
	}
	if !found {
		h.bad("neither of its headers is sound")
	} else if odd {
		h.bad("the version of its log is not known")
	}
	if dirty {
		h.Features = append(h.Features, "dirty") // the log has to be replayed
	}
	return log
}

// vhdxKind is how a table of a VHDX is made.
type vhdxKind struct {
	name, signature string
	summed          bool
	count           func(b []byte) int
	first           int // offset of the first entry; one has 32 bytes, and its id first
	entry           func(b []byte) (s span, required bool)
	known           []guid
}

var (
	vhdxRegionTable = vhdxKind{
		"table of regions", "regi", true,
		func(b []byte) int { return int(binary.LittleEndian.Uint32(b[8:])) }, 16,
		func(b []byte) (span, bool) {
			return span{binary.LittleEndian.Uint64(b[16:]), uint64(binary.LittleEndian.Uint32(b[24:]))}, b[28]&1 != 0
		},
		[]guid{vhdxBAT, vhdxMetadata},
	}
	vhdxItemTable = vhdxKind{
		"table of metadata", "metadata", false,
		func(b []byte) int { return int(binary.LittleEndian.Uint16(b[10:])) }, 32,
		func(b []byte) (span, bool) {
			return span{uint64(binary.LittleEndian.Uint32(b[16:])), uint64(binary.LittleEndian.Uint32(b[20:]))}, b[24]&4 != 0
		},
		[]guid{vhdxFileParameters, vhdxDiskSize, vhdxPage83, vhdxLogicalSector, vhdxPhysicalSector, vhdxParentLocator},
	}
)

// vhdxTable reads a table; ok is false if there is none.
func (h *header) vhdxTable(at span, kind vhdxKind) (found map[guid]span, ok bool) {
	h.table(kind.name, at.off, vhdxTableSize)
	if !h.within(at.off, vhdxTableSize) {
		return nil, false
	}
	b := h.at(int64(at.off), vhdxTableSize)
	sound := strings.HasPrefix(string(b), kind.signature) && (!kind.summed || vhdxSound(b, kind.signature))
	if !sound || kind.count(b) > vhdxEntries {
		h.bad("its %s is not sound", kind.name)
		return nil, false
	}
	found = map[guid]span{}
	for i := range kind.count(b) {
		e := b[kind.first+i*32:]
		id := guid(e[:16])
		part, required := kind.entry(e)
		if _, twice := found[id]; twice {
			h.bad("its %s has an entry twice", kind.name)
		}
		if required && !slices.Contains(kind.known, id) {
			h.bad("its %s has an entry that is required and not known: %x", kind.name, id)
		}
		if kind.summed && !h.within(part.off, part.n) {
			h.bad("a region, %d bytes at %d, does not lie within the file", part.n, part.off)
		}
		found[id] = part
	}
	return found, true
}

// vhdxItems reads the metadata.
func (h *header) vhdxItems(items map[guid]span, bat span) {
	for id, n := range map[guid]uint64{vhdxFileParameters: 8, vhdxDiskSize: 8, vhdxLogicalSector: 4, vhdxPhysicalSector: 4} {
		if items[id].n < n {
			h.bad("its metadata lacks an item: %x", id)
			return
		}
	}
	at := func(id guid) int64 { return int64(items[id].off) }
	size, block := h.little64(at(vhdxDiskSize)), uint64(h.little32(at(vhdxFileParameters)))
	flags, logical := h.little32(at(vhdxFileParameters)+4), uint64(h.little32(at(vhdxLogicalSector)))
	h.Capacity, h.ClusterSize = h.capacity(size, 1), int64(block)
	h.Subformat = "dynamic"
	if flags&1 != 0 { // its blocks stay allocated
		h.Subformat = fixed + " blocks"
	}
	switch {
	case !power(block, 1<<20, 256<<20):
		h.bad("its blocks of %d bytes cannot be", block)
	case !power(logical, 512, 512) || size%logical != 0 || size > vhdxMaxSize:
		h.bad("its capacity of %d bytes in sectors of %d bytes cannot be", size, logical)
	case vhdxBATSize(size, block, logical) > bat.n:
		h.bad("its table of blocks of %d bytes is too small for its capacity of %d bytes", bat.n, size)
	}
	h.look = func(c *cutoff) { c.vhdx(bat.off, vhdxBATSize(size, block, logical)/8) }
	if flags&2 != 0 {
		h.Backing = h.vhdxParent(items[vhdxParentLocator])
		h.bad("it is the difference to another image, which QEMU does not read")
	}
}

// vhdx looks at the table of blocks, and what is there of them: the lowest bits say that.
func (c *cutoff) vhdx(bat, n uint64) {
	const states, there, partly, unit = 7, 6, 7, 1 << 20
	for b := c.bytes(bat, 8*n); len(b) >= 8; b = b[8:] {
		if e := binary.LittleEndian.Uint64(b); e&states == there || e&states == partly {
			c.names("a block of its content", e&^(unit-1), uint64(c.ClusterSize))
		}
	}
}

// vhdxBATSize is what the table of blocks of an image without a parent needs,
// bytes: behind as many blocks as a bitmap has bits for comes an entry for that.
func vhdxBATSize(size, block, logical uint64) uint64 {
	ratio := (1 << 23) * logical / block
	n := blocks(size, block)
	return 8 * (n + (max(n, 1)-1)/ratio)
}

// vhdxParent finds a name of the parent: a locator has keys and values.
func (h *header) vhdxParent(at span) string {
	const entries, entrySize = 20, 12
	if at.n < entries || at.n > 64<<10 {
		return Unnamed
	}
	b := h.at(int64(at.off), int(at.n))
	names := map[string]string{}
	for i := range int(binary.LittleEndian.Uint16(b[18:])) {
		e := entries + i*entrySize
		if e+entrySize > len(b) {
			break
		}
		key := utf16At(b, binary.LittleEndian.Uint32(b[e:]), binary.LittleEndian.Uint16(b[e+8:]))
		names[key] = utf16At(b, binary.LittleEndian.Uint32(b[e+4:]), binary.LittleEndian.Uint16(b[e+10:]))
	}
	for _, key := range []string{"relative_path", "absolute_win32_path", "volume_path"} {
		if name := names[key]; name != "" && len(name) <= maxName {
			return name
		}
	}
	return Unnamed
}

// utf16At is the text of n bytes at off of b, "" if it is not all there.
func utf16At(b []byte, off uint32, n uint16) string {
	if uint64(off)+uint64(n) > uint64(len(b)) {
		return ""
	}
	var units []uint16
	for p := b[off : off+uint32(n)]; len(p) > 1; p = p[2:] {
		units = append(units, binary.LittleEndian.Uint16(p))
	}
	return string(utf16.Decode(units))
}
