package formattest

import (
	"encoding/hex"
	"hash/crc32"
	"slices"
	"strings"
	"unicode/utf16"
)

// vhdxParts are what a VHDX is made of; the zero value is a sound one of 1 MiB.
type vhdxParts struct {
	header   patch // of both headers, which get their checksums then
	regions  patch // of the table, likewise
	metadata patch // of the table
	items    patch // 64 KiB behind that
}

const (
	vhdxMetadataAt = 1 << 20
	vhdxBATAt      = 2 << 20
)

func id(text string) string {
	b, err := hex.DecodeString(strings.ReplaceAll(text, "-", ""))
	if err != nil {
		panic("internal error: " + err.Error())
	}
	slices.Reverse(b[0:4])
	slices.Reverse(b[4:6])
	slices.Reverse(b[6:8])
	return string(b)
}

// vhdx makes one.
func vhdx(p vhdxParts) []byte {
	head := withCRC(with(with(make([]byte, 4096), patch{0: "head", 8: le64(1), 66: le16(1), 68: le32(mib), 72: le64(3 << 20)}), p.header))
	regions := with(make([]byte, 64<<10), patch{
		0: "regi", 8: le32(2),
		16: id("2DC27766-F623-4200-9D64-115E9BFD4A08"), 32: le64(vhdxBATAt), 40: le32(mib), 44: le32(1),
		48: id("8B7CA206-4790-4B9A-B8FE-575F050F886E"), 64: le64(vhdxMetadataAt), 72: le32(mib), 76: le32(1),
	})
	metadata := patch{0: "metadata", 10: le16(5)}
	for i, e := range []struct {
		id   string
		size int
	}{
		{"CAA16737-FA36-4D43-B3B6-33F0AA44E76B", 8}, {"2FA54224-CD1B-4876-B211-5DBED83BF4B8", 8}, {"8141BF1D-A96F-4709-BA47-F233A8FAAB5F", 4},
		{"CDA348C7-445D-4471-9CC9-E9885251C556", 4}, {"BECA12AB-B2E6-4523-93EF-C309E000C746", 16},
	} {
		at := 32 + 32*i
		metadata[at], metadata[at+16], metadata[at+20], metadata[at+24] = id(e.id), le32(64<<10+64*i), le32(e.size), le32(4)
	}
	b := with(make([]byte, 3<<20), patch{
		0: "vhdxfile", 64 << 10: string(head), 128 << 10: string(head), 192 << 10: string(withCRC(with(regions, p.regions))),
		vhdxMetadataAt:               string(with(with(make([]byte, 64<<10), metadata), p.metadata)),
		vhdxMetadataAt + 64<<10:      le32(mib),
		vhdxMetadataAt + 64<<10 + 64: le64(mib), vhdxMetadataAt + 64<<10 + 128: le32(512), vhdxMetadataAt + 64<<10 + 192: le32(512),
	})
	copy(b[vhdxMetadataAt+64<<10:], with(b[vhdxMetadataAt+64<<10:vhdxMetadataAt+128<<10], p.items))
	return b
}

// withCRC gives a table its checksum.
func withCRC(b []byte) []byte {
	b = with(b, patch{4: le32(0)})
	return with(b, patch{4: le32(crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))})
}

// wide is a text in UTF-16.
func wide(text string) string {
	var b strings.Builder
	for _, u := range utf16.Encode([]rune(text)) {
		b.WriteByte(byte(u))
		b.WriteByte(byte(u >> 8))
	}
	return b.String()
}

func vhdxs(b Bait) (all []Hostile) {
	unknown := "0123456789abcdef"
	key, value := wide("relative_path"), wide(b.File)
	locator := patch{
		0: le32(mib), 4: le32(2), 1024 + 18: le16(1), 1024 + 20: le32(100), 1024 + 24: le32(200), 1024 + 28: le16(len(key)), 1024 + 30: le16(len(value)),
		1024 + 100: key, 1024 + 200: value,
	}
	parent := vhdxParts{
		metadata: patch{10: le16(6), 192: id("A8D35F2D-B30B-454D-ABF7-D3D84834AB0C"), 208: le32(64<<10 + 1024), 212: le32(1000), 216: le32(4)}, items: locator,
	}
	for _, c := range []struct {
		name    string
		parts   vhdxParts
		problem string
	}{
		{"vhdx without a header", vhdxParts{header: patch{0: "HEAD"}}, "neither of its headers"},
		{"vhdx of version 2", vhdxParts{header: patch{66: le16(2)}}, "neither of its headers"},
		{"vhdx with a table of regions that is none", vhdxParts{regions: patch{0: "REGI"}}, "table of regions"},
		{"vhdx with 2^32-1 regions", vhdxParts{regions: patch{8: ^le32(0)}}, "table of regions"},
		{"vhdx with a region that is not known", vhdxParts{regions: patch{8: le32(3), 80: unknown, 96: le64(1 << 20), 104: le32(1 << 20), 108: le32(1)}}, "not known"},
		{"vhdx with a region twice", vhdxParts{regions: patch{8: le32(3), 80: id("2DC27766-F623-4200-9D64-115E9BFD4A08"), 96: le64(1 << 20), 104: le32(1)}}, "twice"},
		{"vhdx without metadata", vhdxParts{regions: patch{8: le32(1)}}, "no metadata"},
		{"vhdx with its metadata behind the end", vhdxParts{regions: patch{64: le64(1 << 40)}}, "region"},
		{"vhdx with a table of blocks behind the end", vhdxParts{regions: patch{32: le64(1 << 40)}}, "region"},
		{"vhdx with a table of blocks that is too small", vhdxParts{regions: patch{40: le32(0)}}, "cannot be there"},
		{"vhdx with a table of metadata that is none", vhdxParts{metadata: patch{0: "METADATA"}}, "table of metadata"},
		{"vhdx with 65535 items", vhdxParts{metadata: patch{10: ^le16(0)}}, "table of metadata"},
		{"vhdx with an item that is not known", vhdxParts{metadata: patch{10: le16(6), 192: unknown, 216: le32(4)}}, "not known"},
		{"vhdx with an item twice", vhdxParts{metadata: patch{10: le16(6), 192: id("2FA54224-CD1B-4876-B211-5DBED83BF4B8")}}, "twice"},
		{"vhdx without a size", vhdxParts{metadata: patch{64: "x", 88: le32(0)}}, "lacks an item"},
		{"vhdx with an item behind its metadata", vhdxParts{metadata: patch{80: ^le32(0)}}, "item"},
		{"vhdx with blocks of 3 bytes", vhdxParts{items: patch{0: le32(3)}}, "blocks of 3"},
		{"vhdx with sectors of no bytes", vhdxParts{items: patch{128: le32(0)}}, "sectors"},
		{"vhdx of 16 EiB", vhdxParts{items: patch{64: ^le64(0)}}, "more than there can be"},
		{"vhdx of a petabyte", vhdxParts{items: patch{64: le64(1 << 50)}}, "capacity"},
		{"vhdx of 60 TiB in a small table", vhdxParts{items: patch{64: le64(60 << 40)}}, "too small"},
	} {
		all = append(all, made(c.name, vhdx(c.parts), c.problem))
	}
	nameless := vhdxParts{items: patch{0: le32(mib), 4: le32(2)}}
	return append(all, made("vhdx on a file", vhdx(parent), "difference").on(b.File), made("vhdx on nothing", vhdx(nameless), "difference").on("?"),
		made("vhdx of 64 KiB", vhdx(vhdxParts{}), "headers").cut(64<<10), made("vhdx of 8 bytes", vhdx(vhdxParts{}), "headers").cut(8))
}
