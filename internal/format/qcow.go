package format

import (
	"encoding/binary"
	"math"
	"strings"
)

// Both versions of qcow have this magic.
var hasQcowMagic = magic("QFI\xfb", 0)

func isQcow1(s *source) bool { return hasQcowMagic(s) && s.big32(4) == 1 }
func isQcow2(s *source) bool { return hasQcowMagic(s) && s.big32(4) != 1 }

// readQcow1 reads the first version (QEMU block/qcow.c).
func readQcow1(h *header) {
	size, clusterBits, l2Bits := h.big64(24), h.u8(32), h.u8(33)
	h.Capacity = h.capacity(size, 1) &^ (sector - 1)
	if clusterBits < 9 || clusterBits > 16 || l2Bits < 6 || l2Bits > 13 {
		h.bad("its clusters of 2^%d bytes and tables of 2^%d entries cannot be", clusterBits, l2Bits)
	} else {
		h.ClusterSize = 1 << clusterBits
		h.table("L1 table", h.big64(40), 8*blocks(size, 1<<(clusterBits+l2Bits)))
		h.look = lookQcow1
	}
	if size < 2 {
		h.bad("its capacity is %d bytes", size)
	}
	h.qcowEncryption(h.big32(36), 1)
	h.qcowBacking(1 << 20)
}

// qcowEncryption reads the method, up to the last that the version has.
func (h *header) qcowEncryption(method, last uint32) {
	methods := []string{"", "aes", "luks"}
	if method > last {
		h.bad("its method of encryption is not known: %d", method)
		return
	}
	h.Encryption = methods[method]
}

// qcowBacking reads the name of the backing image, which begins below most.
func (h *header) qcowBacking(most uint64) {
	off, n := h.big64(8), uint64(h.big32(16))
	if off == 0 {
		return
	}
	h.Backing = h.name("backing image", off, n)
	if off > most || n > most-min(off, most) {
		h.bad("the name of its backing image, at %d, is not in its first cluster", off)
	}
}

// qcow2Features are the incompatible features that are known, from bit 0 on
// (QEMU docs/interop/qcow2.txt).
var qcow2Features = []string{"dirty", "corrupt", "data-file", "compression", "extended-l2"}

// Bits of the incompatible features.
const (
	qcow2Dirty       = 1 << 0
	qcow2DataFile    = 1 << 2
	qcow2Compression = 1 << 3
	qcow2ExtendedL2  = 1 << 4
)

const (
	maxQcow2L1       = 32 << 20 // bytes, as QEMU has it
	maxQcow2Refs     = 8 << 20  // bytes, likewise
	maxQcow2Snaps    = 65536    // likewise
	maxQcow2Sections = 64       // header extensions; qcow2 knows of six
)

// readQcow2 reads versions 2 and 3.
func readQcow2(h *header) {
	version := h.big32(4)
	h.Capacity = h.capacity(h.big64(24), 1) &^ (sector - 1)
	h.Compat = map[uint32]string{2: "0.10", 3: "1.1"}[version]
	if h.Compat == "" {
		h.bad("version %d of format qcow2 is not known", version)
	}
	cluster := uint64(1) << min(h.big32(20), 32)
	if !power(cluster, 512, 2<<20) {
		h.bad("its clusters of 2^%d bytes cannot be", h.big32(20))
	} else {
		h.ClusterSize = int64(cluster)
	}
	h.qcowEncryption(h.big32(32), 2)
	h.qcowBacking(cluster)
	length, incompatible := uint64(72), uint64(0)
	if version >= 3 {
		length, incompatible = uint64(h.big32(100)), h.big64(72)
		h.qcow2Version3(length, incompatible)
	}
	if h.ClusterSize > 0 {
		h.qcow2Tables(incompatible)
		h.look = lookQcow2
	}
	if length >= 72 && length <= cluster {
		h.qcow2Sections(length, cluster)
	}
	if len(h.Data) == 0 && incompatible&qcow2DataFile != 0 {
		h.Data, h.DataFormats = []string{Unnamed}, []string{"raw"}
		h.bad("its content lies in another file, which it does not name")
	} else if incompatible&qcow2DataFile == 0 {
		h.Data, h.DataFormats = nil, nil // nobody looks for it
	}
}

// qcow2Version3 reads what version 2 has not.
func (h *header) qcow2Version3(length, incompatible uint64) {
	if length < 104 || h.ClusterSize > 0 && length > uint64(h.ClusterSize) {
		h.bad("its header of %d bytes cannot be", length)
	}
	if unknown := incompatible >> len(qcow2Features) << len(qcow2Features); unknown != 0 {
		h.bad("it asks for features that are not known: %#x", unknown)
	}
	for i, name := range qcow2Features {
		if incompatible&(1<<i) != 0 {
			h.Features = append(h.Features, name)
		}
	}
	if h.big64(80)&1 != 0 {
		h.Features = append(h.Features, "lazy-refcounts")
	}
	if h.big32(96) > 6 {
		h.bad("its reference counts of 2^%d bits cannot be", h.big32(96))
	}
	if incompatible&qcow2ExtendedL2 != 0 && h.ClusterSize < 16<<10 {
		h.bad("its subclusters are smaller than a sector")
	}
	var compression uint8
	if length > 104 {
		compression = h.u8(104)
	}
	if compression > 1 || (compression != 0) != (incompatible&qcow2Compression != 0) {
		h.bad("its method of compression is not known: %d", compression)
	}
}

// qcow2Tables checks that the tables are there, and large enough.
func (h *header) qcow2Tables(incompatible uint64) {
	cluster := uint64(h.ClusterSize)
	entry := uint64(8)
	if incompatible&qcow2ExtendedL2 != 0 {
		entry = 16
	}
	l1, reach := uint64(h.big32(36)), exponent(cluster)*2-exponent(entry)
	if need := blocks(h.big64(24), 1<<reach); l1 < need {
		h.bad("its L1 table has %d entries, and needs %d", l1, need)
	}
	h.qcow2Table("L1 table", h.big64(40), 8*l1, maxQcow2L1)
	refs := uint64(h.big32(56)) * cluster
	if refs == 0 {
		h.bad("it has no table of reference counts")
	}
	h.qcow2Table("table of reference counts", h.big64(48), refs, maxQcow2Refs)
	h.Snapshots = int64(h.big32(60))
	if h.Snapshots > maxQcow2Snaps {
		h.bad("its %d snapshots are more than there can be", h.Snapshots)
	}
	h.qcow2Table("table of snapshots", h.big64(64), 40*uint64(h.Snapshots), 40*maxQcow2Snaps)
	h.qcow2Snapshots()
}

// qcow2Snapshots looks at the first entries of the table of snapshots: each says
// how long it is.
func (h *header) qcow2Snapshots() {
	const looked, entry, maxExtra = 16384, 40, 1024
	at := h.big64(64)
	for i := range min(h.Snapshots, looked) {
		if !h.within(at, entry) {
			h.bad("its snapshot %d, at %d, does not lie within the file", i, at)
			return
		}
		b := h.at(int64(at), entry)
		extra := binary.BigEndian.Uint32(b[36:])
		if extra > maxExtra {
			h.bad("its snapshot %d has %d bytes more than it should", i, extra)
			return
		}
		n := entry + uint64(extra) + uint64(binary.BigEndian.Uint16(b[12:])) + uint64(binary.BigEndian.Uint16(b[14:]))
		at += (n + 7) / 8 * 8
	}
}

func (h *header) qcow2Table(what string, off, n, most uint64) {
	if n > most || off%uint64(h.ClusterSize) != 0 || off > math.MaxInt64-n {
		h.bad("its %s, %d bytes at %d, cannot be", what, n, off)
	}
	if n > 0 {
		h.table(what, off, n)
	}
}

// Kinds of header extensions.
const (
	qcow2End           = 0
	qcow2BackingFormat = 0xe2792aca
	qcow2Crypto        = 0x0537be77
	qcow2Bitmaps       = 0x23852875
	qcow2DataFileName  = 0x44415441
)

// qcow2Sections reads the header extensions, which end where the name of the
// backing image begins, or the first cluster ends.
func (h *header) qcow2Sections(at, end uint64) {
	if off := h.big64(8); off != 0 {
		end = min(end, off)
	}
	for range maxQcow2Sections {
		if at == end {
			return
		}
		kind, n := h.big32(int64(at)), uint64(h.big32(int64(at+4)))
		if at += 8; at > end || n > end-at {
			h.bad("a header extension of %d bytes at %d cannot be", n, at)
			return
		}
		if kind == qcow2End {
			return
		}
		h.qcow2Section(kind, at, n)
		at += (n + 7) / 8 * 8
	}
	h.bad("it has more than %d header extensions", maxQcow2Sections)
}

func (h *header) qcow2Section(kind uint32, at, n uint64) {
	switch kind {
	case qcow2BackingFormat:
		if n > 15 {
			h.bad("the name of its backing image's format has %d bytes", n)
			return
		}
		h.BackingFormat = strings.TrimRight(string(h.at(int64(at), int(n))), "\x00")
	case qcow2DataFileName:
		h.Data, h.DataFormats = append(h.Data, h.name("data file", at, n)), append(h.DataFormats, "raw")
		if len(h.Data) > 1 {
			h.bad("it names two data files")
		}
	case qcow2Crypto:
		if n != 16 || h.Encryption != "luks" || !h.within(h.big64(int64(at)), h.big64(int64(at+8))) {
			h.bad("the header of its encryption cannot be")
		}
	case qcow2Bitmaps:
		h.Features = append(h.Features, "bitmaps")
		if n != 24 {
			h.bad("its directory of bitmaps is described in %d bytes", n)
		}
	}
}
