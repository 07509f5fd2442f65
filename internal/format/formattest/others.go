package formattest

import "bytes"

// vdi is a sound image of 1 MiB.
func vdi() []byte {
	return with(make([]byte, 4096), patch{
		64: "\x7f\x10\xda\xbe", 68: le32(0x10001), 72: le32(0x180), 76: le32(1), 340: le32(512), 344: le32(1024), 360: le32(512),
		368: le64(mib), 376: le32(mib), 384: le32(1),
	})
}

func vdis() []Hostile {
	all := patched(vdi(), []variation{
		{"vdi of version 2", patch{68: le32(0x20000)}, "version 2"},
		{"vdi of an unknown type", patch{76: le32(9)}, "type"},
		{"vdi that is a difference", patch{76: le32(4), 440: "0123456789abcdef"}, "difference"},
		{"vdi with a link", patch{424: "0123456789abcdef"}, "difference"},
		{"vdi with blocks of no bytes", patch{376: le32(0)}, "blocks"},
		{"vdi with blocks of 64 KiB", patch{376: le32(65536)}, "blocks"},
		{"vdi with sectors of 4 KiB", patch{360: le32(4096)}, "sectors"},
		{"vdi with 2^32-1 blocks", patch{384: ^le32(0)}, "table"},
		{"vdi with its table behind the end", patch{340: le32(1 << 30)}, "table of blocks"},
		{"vdi with its table between sectors", patch{340: le32(513)}, "aligned"},
		{"vdi of a petabyte in one block", patch{368: le64(1 << 50)}, "does not go with"},
		{"vdi of 16 EiB", patch{368: ^le64(0)}, "more than there can be"},
	})
	all[2], all[3] = all[2].on("?"), all[3].on("?")
	return append(all, made("vdi of 100 bytes", vdi(), "sectors of 0").cut(100))
}

// vpc is a sound dynamic VHD of 1 MiB.
func vpc() []byte {
	foot := summed(with(footer(mib, 3), patch{16: uint64(512)}))
	b := with(make([]byte, 4096), patch{0: string(foot), 512: "cxsparse", 512 + 16: uint64(1536), 512 + 24: uint32(1 << 16), 512 + 28: uint32(1), 512 + 32: uint32(2 * mib), 1536: ^uint32(0)})
	copy(b[len(b)-512:], foot)
	return b
}

// vpcWith is one with another footer.
func vpcWith(name string, p patch, problem string) Hostile {
	return made(name, summed(with(vpc(), p)), problem)
}

func vpcs() []Hostile {
	all := patched(vpc(), []variation{
		{"vpc with a wrong checksum", patch{64: uint32(1)}, "checksum"},
		{"vpc with its table behind the end", patch{512 + 16: uint64(1 << 40)}, "table of blocks"},
		{"vpc with blocks of no bytes", patch{512 + 32: uint32(0)}, "table of"},
		{"vpc with blocks of 3 bytes", patch{512 + 32: uint32(3)}, "table of"},
		{"vpc with 2^32-1 blocks", patch{512 + 28: ^uint32(0)}, "table of"},
		{"vpc with no blocks", patch{512 + 28: uint32(0)}, "table of"},
		{"vpc with another second header", patch{512: "CXSPARSE"}, "second header"},
	})
	named := vpcWith("vpc that is a difference", patch{60: uint32(4), 512 + 64: "\x00/\x00e\x00t\x00c"}, "difference").on("/etc")
	return append(all, named,
		vpcWith("vpc that is a difference to nothing", patch{60: uint32(4)}, "difference").on("?"),
		vpcWith("vpc with its second header behind the end", patch{16: uint64(1 << 40)}, "header"),
		vpcWith("vpc that is fixed at its start", patch{60: uint32(2)}, "whose place is the end"),
		vpcWith("vpc of an unknown type", patch{60: uint32(77)}, "type"),
		vpcWith("vpc of version 2", patch{12: uint32(2 << 16)}, "version 2"),
		vpcWith("vpc of a petabyte", patch{48: uint64(1 << 50)}, "more than there can be"),
		made("vpc of 100 bytes", vpc(), "header").cut(100),
	)
}

// luks is a sound header of LUKS1, with its payload behind 8 slots of one sector.
func luks() []byte {
	const stripes, key = 4000, 1
	b := with(make([]byte, 128<<10), patch{0: "LUKS\xba\xbe", 6: uint16(1), 8: "aes", 40: "xts-plain64", 72: "sha256", 104: uint32(100), 108: uint32(key)})
	for i := range 8 {
		b = with(b, patch{208 + 48*i: uint32(0xdead), 208 + 48*i + 40: uint32(8 + 8*i), 208 + 48*i + 44: uint32(stripes)})
	}
	return b
}

func lukses() []Hostile {
	all := patched(luks(), []variation{
		{"luks with a cipher whose name does not end", patch{8: string(bytes.Repeat([]byte("a"), 32))}, "cipher"},
		{"luks with its content in its header", patch{104: uint32(1)}, "within its header"},
		{"luks with its content behind the end", patch{104: uint32(1 << 20)}, "header"},
		{"luks with a key slot in its content", patch{208 + 40: uint32(99)}, "key slot 0"},
		{"luks with a key slot in its header", patch{208 + 40: uint32(0)}, "key slot 0"},
		{"luks with a key slot of one stripe", patch{208 + 48*7 + 44: uint32(1)}, "key slot 7"},
		{"luks with a key slot of an unknown state", patch{208 + 48*3: uint32(7)}, "key slot 3"},
		{"luks with keys of 4 GiB", patch{108: ^uint32(0)}, "key slot"},
	})
	return append(all, made("luks of 300 bytes", luks(), "key slot").cut(300))
}

// parallels is a sound image of 1 MiB.
func parallels() []byte {
	return with(make([]byte, 4096), patch{0: "WithoutFreeSpace", 16: le32(2), 28: le32(2048), 32: le32(1), 36: le64(2048)})
}

func parallelses() []Hostile {
	return patched(parallels(), []variation{
		{"parallels of version 3", patch{16: le32(3)}, "version 3"},
		{"parallels with clusters of no bytes", patch{28: le32(0)}, "clusters"},
		{"parallels with 2^32-1 clusters", patch{32: ^le32(0)}, "table of clusters"},
		{"parallels of 2 TiB in one cluster", patch{36: le64(0xffffffff)}, "does not go with"},
	})
}
