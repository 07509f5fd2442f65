package format

// qedFeatures are those that are known, from bit 0 on (QEMU
// docs/interop/qed_spec.txt).
var qedFeatures = []string{"backing-file", "need-check", "backing-format-no-probe"}

// readQED reads a QED header.
func readQED(h *header) {
	cluster, table, headers := uint64(h.little32(4)), uint64(h.little32(8)), uint64(h.little32(12))
	features, size := h.little64(16), h.little64(48)
	h.Capacity = h.capacity(size, 1)
	if unknown := features >> len(qedFeatures) << len(qedFeatures); unknown != 0 {
		h.bad("it asks for features that are not known: %#x", unknown)
	}
	for i, name := range qedFeatures {
		if features&(1<<i) != 0 {
			h.Features = append(h.Features, name)
		}
	}
	if features&1 != 0 {
		h.qedBacking(cluster*headers, features&4 != 0)
	}
	if !power(cluster, 4<<10, 64<<20) || !power(table, 2, 16) || headers == 0 {
		h.bad("its clusters of %d bytes and tables of %d clusters cannot be", cluster, table)
		return
	}
	h.ClusterSize = int64(cluster)
	entries := table * cluster / 8
	if size%sector != 0 || blocks(size, cluster) > entries*entries {
		h.bad("its capacity of %d bytes is more than its tables reach", size)
	}
	l1 := h.little64(40)
	if l1%cluster != 0 || l1 < cluster*headers {
		h.bad("its L1 table cannot be at %d", l1)
	}
	h.table("L1 table", l1, table*cluster)
}

// qedBacking reads the name of the backing image, which lies within the headers'
// clusters.
func (h *header) qedBacking(most uint64, raw bool) {
	off, n := uint64(h.little32(56)), uint64(h.little32(60))
	h.Backing = h.name("backing image", off, n)
	if off+n > most {
		h.bad("the name of its backing image, at %d, is not in its header", off)
	}
	if raw {
		h.BackingFormat = "raw"
	}
}
