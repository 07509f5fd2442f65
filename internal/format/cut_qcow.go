package format

// lookQcow2 looks at the tables of a qcow2 (QEMU docs/interop/qcow2.txt).
func lookQcow2(c *cutoff) {
	cluster, incompatible := uint64(c.ClusterSize), c.qcow2Incompatible()
	tables := c.tables(c.entries(c.big64(40), uint64(c.big32(36))), qcow2Offset, cluster)
	if c.deep == 0 {
		c.left = 2 * counted
		suspect := incompatible&qcow2Dirty != 0 || c.qcow2Uses(cluster)
		if c.left = 0; suspect {
			c.left = suspicion
		}
	}
	if incompatible&qcow2DataFile != 0 {
		return // they name places in that
	}
	for _, at := range tables {
		entries := c.entries(at, cluster/8)
		if incompatible&qcow2ExtendedL2 != 0 {
			entries = subclustered(entries)
		}
		for _, e := range entries {
			c.qcow2Cluster(e, cluster)
		}
	}
}

// qcow2Incompatible are the incompatible features, which version 2 has not.
func (s *source) qcow2Incompatible() uint64 {
	if s.big32(4) < 3 {
		return 0
	}
	return s.big64(72)
}

// subclustered are the entries of clusters of which any part has content: each is followed
// by what says that of its parts.
func subclustered(entries []uint64) (used []uint64) {
	for ; len(entries) > 1; entries = entries[2:] {
		if uint32(entries[1]) != 0 {
			used = append(used, entries[0])
		}
	}
	return used
}

// qcow2Cluster takes up what an entry of an L2 table names. Of what is compressed the last
// sector may be short.
func (c *cutoff) qcow2Cluster(entry, cluster uint64) {
	const zero = 1
	if entry&qcow2Compressed == 0 {
		if at := entry & qcow2Offset; at != 0 && entry&zero == 0 {
			c.names("a cluster of its content", at, cluster)
		}
		return
	}
	shift := 62 - (exponent(cluster) - 8)
	at, more := entry&(1<<shift-1), entry&(qcow2Compressed-1)>>shift
	c.names("a compressed cluster", (at/sector+more)*sector, sector)
}

// qcow2Uses reports whether the counts of references say that clusters behind the end of
// the file are in use. More may be, which an interrupted writer has left, and nobody
// names.
func (c *cutoff) qcow2Uses(cluster uint64) bool {
	order := uint(4) // of a count's bits
	if c.big32(4) >= 3 {
		order = uint(c.big32(96))
	}
	blocksThere := uint64(c.big32(56)) * cluster / 8
	behind, counts := blocks(uint64(c.size), cluster), cluster*8>>order
	if behind/counts >= blocksThere {
		return false
	}
	table := c.entries(c.big64(48)+8*(behind/counts), min(blocksThere-behind/counts, counted/8))
	if len(table) == 0 || table[0]&qcow2Offset == 0 {
		return anySet(table)
	}
	bit := behind % counts << order
	block := c.bytes(table[0]&qcow2Offset+bit/8, min(cluster-bit/8, counted))
	if len(block) == 0 { // it lies behind the end itself
		return true
	}
	block[0] >>= bit % 8 // counts of less than a byte begin with its lowest bits
	return anySet(block) || anySet(table[1:])
}

func anySet[T byte | uint64](list []T) bool {
	for _, n := range list {
		if n != 0 {
			return true
		}
	}
	return false
}

// lookQcow1 looks at the tables of a qcow of version 1, which have no counts beside them.
func lookQcow1(c *cutoff) {
	const compressed = 1 << 63
	cluster, size := uint64(c.ClusterSize), uint64(8)<<c.u8(33)
	l1 := blocks(uint64(c.big64(24)), cluster<<c.u8(33))
	for _, at := range c.tables(c.entries(c.big64(40), l1), ^uint64(0), size) {
		for _, e := range c.entries(at, size/8) {
			switch {
			case e&compressed != 0:
				c.names("a compressed cluster", e&(1<<(63-exponent(cluster))-1), 1)
			case e != 0:
				c.names("a cluster of its content", e, cluster)
			}
		}
	}
}
