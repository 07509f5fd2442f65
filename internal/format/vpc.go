package format

import (
	"encoding/binary"
	"unicode/utf16"
)

// Magic numbers and types of a VHD (Virtual Hard Disk Image Format Specification
// 1.0).
const (
	vpcMagic    = "conectix"
	vpcDynMagic = "cxsparse"
	vpcFooter   = 512 // bytes

	vpcFixed      = 2
	vpcDynamic    = 3
	vpcDifference = 4
)

// fixed is the subformat of an image that is a disk's bytes and a footer.
const fixed = "fixed"

// isFixedVPC looks at the end of the file, where alone a fixed VHD has its footer.
// A guest can write one to the end of its disk: so all of it has to be right.
func isFixedVPC(s *source) bool {
	off := s.size - vpcFooter
	return off > 0 && string(s.at(off, len(vpcMagic))) == vpcMagic && s.big32(off+60) == vpcFixed &&
		s.vpcSum(off) == s.big32(off+64) && s.vpcSize(off) <= uint64(off)
}

// vpcSum is the checksum of a footer: the complement of the sum of its bytes, its
// own place left out.
func (s *source) vpcSum(off int64) uint32 {
	sum := uint32(0)
	for i, b := range s.at(off, vpcFooter) {
		if i < 64 || i >= 68 {
			sum += uint32(b)
		}
	}
	return ^sum
}

// vpcSize is the capacity that a footer tells, bytes. Who made it decides whether
// the size or the geometry counts (QEMU block/vpc.c).
func (s *source) vpcSize(off int64) uint64 {
	const maxGeometry = 65535 * 16 * 255
	chs := uint64(s.big16(off+56)) * uint64(s.u8(off+58)) * uint64(s.u8(off+59))
	switch string(s.at(off+28, 4)) {
	case "win ", "qem2", "d2v ", "tap\x00", "CTXS":
	default:
		if chs != maxGeometry {
			return chs * sector
		}
	}
	return s.big64(off+48) &^ (sector - 1)
}

func readFixedVPC(h *header) { h.readVPCFooter(h.size - vpcFooter) }

// readVPCFooter reads the footer, or its copy.
func (h *header) readVPCFooter(off int64) {
	const maxSize = 0xff000000 * sector // bytes, QEMU's limit
	size := h.vpcSize(off)
	h.Capacity = h.capacity(size, 1)
	h.Subformat = map[uint32]string{vpcFixed: fixed, vpcDynamic: "dynamic", vpcDifference: "difference"}[h.big32(off+60)]
	switch {
	case h.vpcSum(off) != h.big32(off+64):
		h.bad("the checksum of its footer is wrong")
	case h.big32(off+12)>>16 != 1:
		h.bad("version %d of format vpc is not known", h.big32(off+12)>>16)
	case size > maxSize:
		h.bad("its capacity of %d bytes is more than there can be", size)
	}
}

// readVPC reads the copy of the footer at the start of a dynamic VHD.
func readVPC(h *header) {
	h.readVPCFooter(0)
	switch h.big32(60) {
	case vpcDynamic:
		h.vpcDynamic()
	case vpcDifference:
		h.vpcParent(h.big64(16))
		h.bad("it is the difference to another image, which QEMU does not read")
	case vpcFixed:
		h.Subformat = ""
		h.bad("it begins with the footer of a fixed image, whose place is the end")
	default:
		h.bad("its type is not known: %d", h.big32(60))
	}
}

func (h *header) vpcDynamic() {
	off := h.big64(16)
	h.table("header", off, 1024)
	if !h.within(off, 1024) {
		return
	}
	if string(h.at(int64(off), len(vpcDynMagic))) != vpcDynMagic {
		h.bad("its second header, at %d, is none", off)
	}
	block, entries := uint64(h.big32(int64(off)+32)), uint64(h.big32(int64(off)+28))
	if !power(block, sector, 1<<31) || entries > 1<<29 || blocks(uint64(h.Capacity), max(block, 1)) > entries {
		h.bad("its table of %d blocks of %d bytes does not go with its capacity of %d bytes", entries, block, h.Capacity)
	}
	h.ClusterSize = int64(block)
	h.vpcBlocks(h.big64(int64(off)+16), entries, block)
}

// vpcBlocks looks whether the table of blocks is there, and the blocks are that its
// first part tells of.
func (h *header) vpcBlocks(off, entries, block uint64) {
	const looked, none = 64 << 10, 0xffffffff
	h.table("table of blocks", off, (4*entries+sector-1)/sector*sector)
	if h.Problem != "" || h.size < 0 {
		return
	}
	bitmap := blocks(block/sector/8, sector) * sector
	for b := h.at(int64(off), int(min(4*entries, looked))); len(b) > 0; b = b[4:] {
		if at := binary.BigEndian.Uint32(b); at != none && !h.within(uint64(at)*sector, bitmap+block) {
			h.bad("a block, in sector %d, does not lie within the file", at)
			return
		}
	}
}

// vpcParent reads the name of the parent from the second header.
func (h *header) vpcParent(off uint64) {
	const at, size = 64, 512
	h.Backing = Unnamed
	if !h.within(off, at+size) {
		return
	}
	var units []uint16
	for b := h.at(int64(off)+at, size); len(b) > 0 && (b[0] != 0 || b[1] != 0); b = b[2:] {
		units = append(units, binary.BigEndian.Uint16(b))
	}
	if name := string(utf16.Decode(units)); name != "" && len(name) <= maxName {
		h.Backing = name
	}
}
