package formattest

import (
	"strings"
)

const (
	qcow2Size = 8192 // bytes of the file of the image that others are made of
	mib       = 1 << 20
)

// backed is a sound image that stands on another.
func backed(b []byte, name string) []byte {
	const at = 200
	return with(b, patch{8: uint64(at), 16: uint32(len(name)), at: name})
}

// sound has clusters of 4 KiB, so that there is room for names.
func sound() []byte {
	const cluster = 4096
	return with(qcow2(mib, 4*cluster), patch{
		20: uint32(12), 36: uint32(1), 40: uint64(3 * cluster), 48: uint64(cluster), 512: uint64(0),
		1024: uint64(0), cluster: uint64(2 * cluster), 2 * cluster: uint64(1<<48 | 1<<32 | 1<<16 | 1),
	})
}

func qcow2References(b Bait) (all []Hostile) {
	for _, name := range references(b) {
		all = append(all, made("qcow2 on "+name, backed(sound(), name), "").on(name))
	}
	file := patch{8: uint64(200), 16: uint32(len(b.File)), 200: b.File}
	old := with(sound(), file)
	all = append(all,
		made("qcow2 of version 2 on a file", with(old, patch{4: uint32(2)}), "").on(b.File),
		made("qcow2 on itself", backed(sound(), "itself"), "").on("itself"),
		made("qcow2 that declares a format of its backing", with(old, patch{104: uint32(0xe2792aca), 108: uint32(5), 112: "qcow2", 120: uint64(0)}), "").on(b.File),
		made("qcow2 with a long format of its backing", with(old, patch{104: uint32(0xe2792aca), 108: uint32(40), 112: "json:{", 152: uint64(0)}), "format has 40 bytes").on(b.File),
		made("qcow2 on a name with a byte of 0", backed(sound(), b.File+"\x00x"), "byte of 0").on(b.File),
		made("qcow2 on no name", with(sound(), patch{8: uint64(200)}), "cannot be there").on("?"),
		made("qcow2 on a name of 4 GiB", with(sound(), patch{8: uint64(200), 16: ^uint32(0)}), "cannot be there").on("?"),
		made("qcow2 on a name behind the end", with(sound(), patch{8: uint64(1 << 40), 16: uint32(10)}), "cannot be there").on("?"),
		made("qcow2 on a name that overflows", with(sound(), patch{8: ^uint64(0), 16: uint32(2)}), "cannot be there").on("?"),
		made("qcow2 on a name in its second cluster", with(sound(), patch{8: uint64(5000), 16: uint32(len(b.File)), 5000: b.File}), "not in its first cluster").on(b.File),
		made("qcow2 on a name across the first cluster", with(sound(), patch{8: uint64(4090), 16: uint32(len(b.File)), 4090: b.File}), "").on(b.File),
	)
	all[len(all)-1].Problem = "not in its first cluster"
	return all
}

// dataFile is a header extension that names a data file.
func dataFile(name string) []byte {
	return with(sound(), patch{72: uint64(4), 104: uint32(0x44415441), 108: uint32(len(name)), 112: name + strings.Repeat("\x00", 8)})
}

func qcow2DataFiles(b Bait) (all []Hostile) {
	for _, name := range references(b) {
		all = append(all, made("qcow2 with its content in "+name, dataFile(name), "").in(name))
	}
	one := dataFile("a")
	return append(all,
		made("qcow2 with its content in a file without a name", with(sound(), patch{72: uint64(4)}), "does not name").in("?"),
		made("qcow2 with two data files", with(one, patch{120: uint32(0x44415441), 124: uint32(len(b.File)), 128: b.File + "\x00\x00\x00\x00\x00\x00\x00\x00"}), "two data files").in("a", b.File),
		made("qcow2 with a data file of 4 GiB of name", with(one, patch{108: ^uint32(0)}), "header extension").in("?"),
		made("qcow2 with a data file and a backing", with(one, patch{8: uint64(200), 16: uint32(len(b.File)), 200: b.File}), "").in("a").on(b.File),
		made("qcow2 of version 2 with a data file", with(one, patch{4: uint32(2), 72: uint32(0x44415441), 76: uint32(4), 80: "file", 84: uint64(0)}), ""),
		made("qcow2 that names a data file and does not use it", with(one, patch{72: uint64(0)}), ""),
		made("qcow2 that says its data file is raw", with(one, patch{88: uint64(2)}), "").in("a"),
	)
}

func qcow2Headers() []Hostile {
	all := patched(sound(), []variation{
		{"qcow2 of version 0", patch{4: uint32(0)}, "version 0"},
		{"qcow2 of version 4", patch{4: uint32(4)}, "version 4"},
		{"qcow2 of version 2^32-1", patch{4: ^uint32(0)}, "version 4294967295"},
		{"qcow2 that asks for the next feature", patch{72: uint64(1 << 5)}, "not known: 0x20"},
		{"qcow2 that asks for the last feature", patch{72: uint64(1 << 63)}, "not known"},
		{"qcow2 with an unknown compression", patch{72: uint64(8), 100: uint32(112), 104: byte(2)}, "compression"},
		{"qcow2 with a compression that it does not ask for", patch{100: uint32(112), 104: byte(1)}, "compression"},
		{"qcow2 that asks for a compression that it does not say", patch{72: uint64(8), 100: uint32(112)}, "compression"},
		{"qcow2 with clusters of 256 bytes", patch{20: uint32(8)}, "clusters"},
		{"qcow2 with clusters of 4 MiB", patch{20: uint32(22)}, "clusters"},
		{"qcow2 with clusters of 2^(2^32-1) bytes", patch{20: ^uint32(0)}, "clusters"},
		{"qcow2 with a header of 72 bytes", patch{100: uint32(72)}, "header of 72 bytes"},
		{"qcow2 with a header of two clusters", patch{100: uint32(8192)}, "header of 8192 bytes"},
		{"qcow2 with a header of 4 GiB", patch{100: ^uint32(0)}, "header of"},
		{"qcow2 with reference counts of 128 bits", patch{96: uint32(7)}, "reference counts"},
		{"qcow2 with reference counts of 2^(2^32-1) bits", patch{96: ^uint32(0)}, "reference counts"},
		{"qcow2 with an unknown encryption", patch{32: uint32(3)}, "encryption"},
		{"qcow2 with a LUKS header behind its end", patch{32: uint32(2), 104: uint32(0x0537be77), 108: uint32(16), 112: uint64(1 << 40), 120: uint64(4096)}, "encryption"},
		{"qcow2 with a LUKS header and no encryption", patch{104: uint32(0x0537be77), 108: uint32(16), 112: uint64(4096), 120: uint64(4096)}, "encryption"},
		{"qcow2 with subclusters of 128 bytes", patch{72: uint64(16)}, "subclusters"},
		{"qcow2 with a header extension of 4 GiB", patch{104: uint32(7), 108: ^uint32(0)}, "header extension"},
		{"qcow2 with a header extension across the end of the cluster", patch{104: uint32(7), 108: uint32(3985)}, "header extension"},
		{"qcow2 with bitmaps that it does not describe", patch{104: uint32(0x23852875), 108: uint32(8)}, "bitmaps"},
		{"qcow2 that is corrupt and dirty", patch{72: uint64(3)}, ""},
	})
	endless := sound()
	for at := 104; at < 4096; at += 8 {
		endless = with(endless, patch{at: uint32(7)})
	}
	return append(all, made("qcow2 with header extensions without end", endless, "more than"),
		made("qcow2 of 4 bytes", sound(), "version 0").cut(4), made("qcow2 of 24 bytes", sound(), "header of 0 bytes").cut(24), made("qcow2 of one cluster", sound(), "does not lie within").cut(4096))
}

func qcow2Tables() []Hostile {
	return patched(sound(), []variation{
		{"qcow2 with its L1 table behind the end", patch{40: uint64(1 << 40)}, "L1 table"},
		{"qcow2 with its L1 table across the end", patch{36: uint32(1000), 40: uint64(3 * 4096)}, "L1 table"},
		{"qcow2 with its L1 table between clusters", patch{40: uint64(3*4096 + 8)}, "L1 table"},
		{"qcow2 with no L1 table", patch{36: uint32(0)}, "L1 table"},
		{"qcow2 with 2^32-1 entries of L1", patch{36: ^uint32(0)}, "L1 table"},
		{"qcow2 with an L1 table that overflows", patch{40: ^uint64(0) &^ 4095}, "L1 table"},
		{"qcow2 with its reference counts behind the end", patch{48: uint64(1 << 40)}, "reference counts"},
		{"qcow2 without reference counts", patch{56: uint32(0)}, "reference counts"},
		{"qcow2 with 2^32-1 clusters of reference counts", patch{56: ^uint32(0)}, "reference counts"},
		{"qcow2 with 2^32-1 snapshots", patch{60: ^uint32(0)}, "snapshots"},
		{"qcow2 with its snapshots behind the end", patch{60: uint32(2), 64: uint64(1 << 40)}, "snapshots"},
		{"qcow2 with its snapshots between clusters", patch{60: uint32(2), 64: uint64(512)}, "snapshots"},
		{"qcow2 of 16 EiB", patch{24: ^uint64(0)}, "more than there can be"},
		{"qcow2 of 8 EiB", patch{24: uint64(1 << 63)}, "more than there can be"},
		{"qcow2 of a petabyte in one entry", patch{24: uint64(1 << 50)}, "L1 table has 1 entries"},
		{"qcow2 of one byte too many", patch{24: uint64(2*mib + 1)}, "L1 table has 1 entries"},
	})
}

// qcow1 is a sound image of version 1.
func qcow1() []byte {
	return with(make([]byte, 8192), patch{0: "QFI\xfb", 4: uint32(1), 24: uint64(mib), 32: byte(12), 33: byte(9), 40: uint64(512)})
}

func qcows(b Bait) []Hostile {
	all := patched(qcow1(), []variation{
		{"qcow of no bytes", patch{24: uint64(0)}, "capacity"},
		{"qcow of 16 EiB", patch{24: ^uint64(0)}, "more than there can be"},
		{"qcow of a petabyte", patch{24: uint64(1 << 50)}, "L1 table"},
		{"qcow with clusters of 2^30 bytes", patch{32: byte(30)}, "clusters"},
		{"qcow with clusters of 1 byte", patch{32: byte(0)}, "clusters"},
		{"qcow with tables of 2^255 entries", patch{33: byte(255)}, "clusters"},
		{"qcow with its L1 table behind the end", patch{40: uint64(1 << 40)}, "L1 table"},
		{"qcow with an unknown encryption", patch{36: uint32(2)}, "encryption"},
	})
	for _, name := range references(b)[:6] {
		all = append(all, made("qcow on "+name, backed(qcow1(), name), "").on(name))
	}
	return all
}

// qed is a sound image.
func qed() []byte {
	return with(make([]byte, 4096*4), patch{0: "QED\x00", 4: le32(4096), 8: le32(2), 12: le32(1), 40: le64(4096), 48: le64(mib)})
}

func qeds(b Bait) []Hostile {
	on := patch{16: le64(1), 56: le32(100), 60: le32(len(b.File)), 100: b.File}
	all := patched(qed(), []variation{
		{"qed that asks for what is not known", patch{16: le64(8)}, "not known"},
		{"qed with clusters of no bytes", patch{4: le32(0)}, "clusters"},
		{"qed with clusters of 3 GiB", patch{4: le32(3 << 30)}, "clusters"},
		{"qed with tables of three clusters", patch{8: le32(3)}, "tables"},
		{"qed with no header", patch{12: le32(0)}, "clusters"},
		{"qed with its L1 table behind the end", patch{40: le64(1 << 40)}, "L1 table"},
		{"qed with its L1 table in its header", patch{40: le64(0)}, "L1 table"},
		{"qed of 16 EiB", patch{48: ^le64(0)}, "more than there can be"},
		{"qed of a petabyte", patch{48: le64(1 << 50)}, "more than its tables reach"},
		{"qed on a name behind its header", patch{16: le64(1), 56: le32(5000), 60: le32(4), 5000: "/etc"}, "not in its header"},
		{"qed on a name of 4 GiB", patch{16: le64(1), 56: le32(100), 60: ^le32(0)}, "cannot be there"},
		{"qed on a file", on, ""},
	})
	all[9], all[10], all[11] = all[9].on("/etc"), all[10].on("?"), all[11].on(b.File)
	return append(all, made("qed that denies its backing", with(with(qed(), on), patch{16: le64(0)}), ""))
}
