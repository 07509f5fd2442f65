package format

import "bytes"

// maxVDIBlocks is QEMU's limit.
const maxVDIBlocks = 0x3fffffff

// readVDI reads a VirtualBox header (QEMU block/vdi.c).
func readVDI(h *header) {
	const size, block = 1 << 20, 376
	types := map[uint32]string{1: "dynamic", 2: "static", 4: "difference"}
	h.Capacity = h.capacity(blocks(h.little64(368), sector), sector)
	h.Subformat = types[h.little32(76)]
	entries := uint64(h.little32(384))
	switch {
	case h.little32(68) != 0x00010001:
		h.bad("version %d.%d of format vdi is not known", h.little16(70), h.little16(68))
	case h.Subformat == "":
		h.bad("its type is not known: %d", h.little32(76))
	case h.little32(360) != sector || h.little32(block) != size:
		h.bad("its sectors of %d bytes and blocks of %d bytes are not known", h.little32(360), h.little32(block))
	case h.little32(340)%sector != 0 || h.little32(344)%sector != 0:
		h.bad("its tables at %d and %d are not aligned", h.little32(340), h.little32(344))
	case entries > maxVDIBlocks || blocks(uint64(h.Capacity), size) > entries:
		h.bad("its table of %d blocks does not go with its capacity of %d bytes", entries, h.Capacity)
	}
	h.ClusterSize = int64(h.little32(block))
	h.table("table of blocks", uint64(h.little32(340)), 4*entries)
	h.look = lookVDI
	if linked := bytes.Trim(h.at(424, 32), "\x00"); h.Subformat == "difference" || len(linked) > 0 {
		h.Backing = Unnamed
		h.bad("it is the difference to another image, which it names by UUID only")
	}
}

// lookVDI looks at the table of blocks, if the header counts more than the file has.
func lookVDI(c *cutoff) {
	const discarded = 0xfffffffe // and the next is one that was never written
	data, block := uint64(c.little32(344)), uint64(c.ClusterSize)
	switch used := uint64(c.little32(388)); {
	case c.deep > 0:
	case data+used*block <= uint64(c.size):
		return
	default:
		c.left = suspicion
	}
	for _, at := range c.short(uint64(c.little32(340)), uint64(c.little32(384))) {
		if at < discarded {
			c.names("a block of its content", data+at*block, block)
		}
	}
}
