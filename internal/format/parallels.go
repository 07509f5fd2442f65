package format

// isParallels recognises both versions of the header.
func isParallels(s *source) bool {
	m := string(s.at(0, 16))
	return m == "WithoutFreeSpace" || m == "WithouFreSpacExt"
}

// readParallels reads a header of Parallels (QEMU docs/interop/parallels.txt).
func readParallels(h *header) {
	const inUse, extension = 0x746f6e59, 0xab234cef23dcea87
	sectors, entries := h.little64(36), uint64(h.little32(32))
	cluster := uint64(h.little32(28)) * sector
	if string(h.at(0, 16)) == "WithoutFreeSpace" {
		sectors &= 0xffffffff
	}
	h.Capacity, h.ClusterSize = h.capacity(sectors, sector), int64(cluster)
	switch {
	case h.little32(16) != 2:
		h.bad("version %d of format parallels is not known", h.little32(16))
	case cluster == 0:
		h.bad("its clusters have no bytes")
	case blocks(uint64(h.Capacity), cluster) > entries:
		h.bad("its table of %d clusters of %d bytes does not go with its capacity of %d bytes", entries, cluster, h.Capacity)
	}
	h.table("table of clusters", 64, 4*entries)
	if more := h.little64(56); more != 0 && (!h.within(more, 0) || more > 1<<50 || h.little64(int64(more)*sector) != extension) {
		h.bad("its extension, in sector %d, is none", more)
	}
	h.look = lookParallels
	if h.little32(44) == inUse {
		h.Features = append(h.Features, "dirty")
	}
}

// lookParallels looks at the table of clusters, which counts sectors, or clusters.
func lookParallels(c *cutoff) {
	unit, cluster := uint64(sector), uint64(c.ClusterSize)
	if string(c.at(0, 16)) != "WithoutFreeSpace" {
		unit = cluster
	}
	for _, at := range c.short(64, uint64(c.little32(32))) {
		if at > 0 {
			c.names("a cluster of its content", at*unit, cluster)
		}
	}
}
