package formattest

import "bytes"

// bombs are images that are small and have much in them, or tables that are
// memory of whoever opens them.
func bombs() []Hostile {
	return []Hostile{
		qcow2Bomb(), streamBomb(),
		luksBomb(),
		{Name: "qcow2 of a petabyte", Head: with(sound(), patch{20: uint32(16), 24: uint64(1 << 50), 36: uint32(1 << 21), 40: uint64(1 << 20), 48: uint64(1 << 16), 4096: uint64(0), 8192: uint64(0)}),
			More: map[int64][]byte{1 << 16: with(make([]byte, 8), patch{0: uint64(2 << 16)})}, Size: 32 << 20, Format: "qcow2", Bomb: true},
		{Name: "vpc with a table of 2 GiB", Head: with(vpc(), patch{512 + 28: uint32(1 << 29), 512 + 16: uint64(1 << 20)}), Size: 3 << 30, Format: "vpc", Problem: "table of blocks"},
		{Name: "vdi with a table of 4 GiB", Head: with(vdi(), patch{384: le32(0x3fffffff)}), Size: 5 << 30, Format: "vdi", Problem: "table of blocks"},
		{Name: "parallels with a table of 4 GiB", Head: with(parallels(), patch{32: le32(0x3fffffff)}), Size: 5 << 30, Format: "parallels", Problem: "table of clusters"},
		{Name: "vmdk with a directory of 4 GiB", Head: with(vmdk(), patch{12: le64(1 << 39), 44: le32(1), 20: le64(1)}), Size: 5 << 30, Format: "vmdk", Problem: "directory"},
	}
}

// luksBomb derives its key from the passphrase 2^32-1 times.
func luksBomb() Hostile {
	const key, slot = 64, 504 // bytes; sectors
	b := with(luks(), patch{104: uint32(8 + 8*slot), 108: uint32(key), 164: uint32(1000)})
	for i := range 8 {
		b = with(b, patch{208 + 48*i + 40: uint32(8 + slot*i)})
	}
	return Hostile{Name: "luks that is a bomb", Head: with(b, patch{208: uint32(0x00ac71f3), 212: ^uint32(0)}), Size: 4 << 20, Format: "luks", Bomb: true}
}

// deflated is a stream of deflate (RFC 1951) with n bytes of 0, n more than 0: a
// literal, then matches of 258 bytes, which take 13 bits each.
func deflated(n int) []byte {
	const match = 258
	var out bytes.Buffer
	var bits, count uint
	put := func(code, size uint) {
		bits |= code << count
		for count += size; count >= 8; count -= 8 {
			out.WriteByte(byte(bits))
			bits >>= 8
		}
	}
	const literal, last = 0b00001100, 0b011 // of 8 bits, lowest first; the only block, of fixed codes
	put(last, 3)
	put(literal, 8)
	for range (n - 1) / match {
		put(0b10100011, 13) // 258 bytes, from a distance of 1
	}
	for range (n - 1) % match {
		put(literal, 8)
	}
	put(0, 7) // the end of the block
	put(0, 7)
	return out.Bytes()
}

// zlibbed is deflated in the wrapping of zlib (RFC 1950).
func zlibbed(n int) []byte {
	const mod = 65521
	sum := big.AppendUint32(nil, uint32(n%mod)<<16|1)
	return append(append([]byte{0x78, 0x9c}, deflated(n)...), sum...)
}

// qcow2Bomb has one compressed cluster that all of the disk consists of: 2 TiB in
// 12 MiB.
func qcow2Bomb() Hostile {
	const cluster, bits, tables = 2 << 20, 21, 4
	packed := deflated(cluster)
	const data = 4 * cluster
	sectors := uint64((len(packed)+511)/512 - 1)
	entry := uint64(1<<62) | sectors<<(62-(bits-8)) | data
	l2 := make([]byte, cluster)
	for i := 0; i < cluster; i += 8 {
		big.PutUint64(l2[i:], entry)
	}
	l1 := make([]byte, 8*tables)
	for i := range tables {
		big.PutUint64(l1[8*i:], 5*cluster) // all the same
	}
	head := with(qcow2(0, 4096), patch{
		20: uint32(bits), 24: uint64(tables) << 39, 36: uint32(tables), 40: uint64(3 * cluster), 48: uint64(cluster), 512: uint64(0), 1024: uint64(0),
	})
	return Hostile{Name: "qcow2 that is a bomb", Head: head, More: map[int64][]byte{
		cluster: with(make([]byte, 8), patch{0: uint64(2 * cluster)}), 3 * cluster: l1, data: packed, 5 * cluster: l2,
	}, Size: 6 * cluster, Format: "qcow2", Bomb: true}
}

// streamBomb has one grain of 1 GiB in 7 MiB.
func streamBomb() Hostile {
	const grain = 0x200000 // sectors
	packed := zlibbed(grain * 512)
	marker := with(make([]byte, 12), patch{8: le32(len(packed))})
	table := with(make([]byte, 2048), patch{0: le32(200)})
	head := with(vmdk(), patch{4: le32(3), 8: le32(3 | 3<<16), 12: le64(4 * grain), 20: le64(grain), 77: le16(1), 26 * 512: le32(27), 27 * 512: string(table)})
	return Hostile{
		Name: "vmdk that is a bomb", Head: head, More: map[int64][]byte{200 * 512: append(marker, packed...)}, Size: 8 << 20, Format: "vmdk", Bomb: true,
	}
}
