package formattest

import (
	"fmt"
	"strings"
)

// vmdkText is the descriptor of a sparse image.
const vmdkText = "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\ncreateType=\"monolithicSparse\"\n"

// vmdk is a sound sparse image of 1 MiB.
func vmdk() []byte {
	return with(make([]byte, 65536), patch{
		0: "KDMV", 4: le32(1), 8: le32(3), 12: le64(2048), 20: le64(128), 28: le64(1), 36: le64(20), 44: le32(512),
		48: le64(21), 56: le64(26), 64: le64(128), 512: vmdkText,
	})
}

// text is a descriptor that stands alone.
func text(kind string, lines ...string) []byte {
	return []byte(fmt.Sprintf("# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\ncreateType=%q\n%s\n", kind, strings.Join(lines, "\n")))
}

func vmdkDescriptors(b Bait) (all []Hostile) {
	for _, name := range references(b) {
		if !strings.Contains(name, `"`) {
			all = append(all, made("vmdk with an extent in "+name, text("monolithicFlat", `RW 2048 FLAT "`+name+`" 0`), "").in(name))
		}
	}
	extent := `RW 2048 FLAT "` + b.File + `" 0`
	var many []string
	for i := range 3000 {
		many = append(many, fmt.Sprintf(`RW 8 FLAT "f%d" 0`, i))
	}
	long := text("vmfs", append(many[:1:1], strings.Repeat("#", 600<<10))...)
	inner := with(vmdk(), patch{12: le64(0), 512: string(text("monolithicFlat", extent))})
	return append(all,
		made("vmdk with an extent to read", text("vmfs", `RDONLY 2048 FLAT "`+b.File+`" 0`), "is not opened").in(b.File),
		made("vmdk with an extent of zeros", text("monolithicFlat", extent, `RW 2048 ZERO`), "is not opened").in(b.File),
		made("vmdk with an extent of ESX", text("vmfsSparse", `RW 2048 VMFSSPARSE "`+b.File+`"`), "is not opened").in(b.File),
		made("vmdk with an extent of newer ESX", text("seSparse", `RW 2048 SESPARSE "`+b.File+`"`), "is not opened").in(b.File),
		made("vmdk with an extent of a device", text("fullDevice", `RW 2048 FLAT "/dev/mem" 0`), "not known").in("/dev/mem"),
		made("vmdk of a mapped device", text("vmfsRawDeviceMap", `RW 2048 VMFSRDM "`+b.File+`"`), "not known").in(b.File),
		made("vmdk of no type", []byte("# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=1\n"+extent), "not known").in(b.File),
		made("vmdk of a type of its own", text("mine", extent), "not known").in(b.File),
		made("vmdk without extents", text("monolithicFlat"), "no extents"),
		made("vmdk with an extent of no size", text("monolithicFlat", `RW x FLAT "`+b.File+`" 0`), "no size").in(b.File),
		made("vmdk with an extent of 2^63 sectors", text("monolithicFlat", `RW 9223372036854775807 FLAT "`+b.File+`" 0`), "no size").in(b.File),
		made("vmdk with an extent whose name does not end", text("monolithicFlat", `RW 8 FLAT "`+b.File), "is not opened").in("?"),
		made("vmdk with 3000 extents", text("vmfs", many...), "more than 2000 extents").in(names(2001)...),
		made("vmdk with a descriptor of 600 KiB", long, "descriptor has more").in("f0"),
		made("vmdk that is a descriptor and no more", inner, "").in(b.File),
		made("vmdk in text on a file", text("monolithicFlat", `parentFileNameHint="`+b.File+`"`, `RW 8 FLAT "f" 0`), "").on(b.File).in("f"),
	)
}

func names(n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprintf("f%d", i))
	}
	return all
}

func vmdkExtents(b Bait) []Hostile {
	hint := vmdkText + `parentFileNameHint="` + b.File + `"` + "\n"
	all := patched(vmdk(), []variation{
		{"vmdk on a file", patch{512: hint}, ""},
		{"vmdk on a name that does not end", patch{512: vmdkText + `parentFileNameHint="` + strings.Repeat("x", 9000)}, "name of its parent"},
		{"vmdk with a descriptor far away", patch{28: le64(100), 100 * 512: hint}, "descriptor is not behind"},
		{"vmdk with grains of no bytes", patch{20: le64(0)}, "grains"},
		{"vmdk with grains of 2 GiB", patch{20: le64(0x400000)}, "grains"},
		{"vmdk with tables of 1000 entries", patch{44: le32(1000)}, "grains"},
		{"vmdk with tables of no entries", patch{44: le32(0)}, "grains"},
		{"vmdk of 2^64-1 sectors", patch{12: ^le64(0)}, "more than there can be"},
		{"vmdk of a petabyte", patch{12: le64(1 << 41)}, "directory"},
		{"vmdk with its directory behind the end", patch{56: le64(1 << 40)}, "directory"},
		{"vmdk of version 9", patch{4: le32(9)}, "version 9"},
		{"vmdk of version 0", patch{4: le32(0)}, "version 0"},
		{"vmdk with an unknown compression", patch{77: le16(7)}, "compression"},
		{"vmdk without its footer", patch{56: ^le64(0)}, "no footer"},
		{"vmdk with its content behind the end", patch{64: le64(1 << 30)}, "overhead"},
	})
	all[0], all[1], all[2] = all[0].on(b.File), all[1].on("?"), all[2].on(b.File)
	stream := streamed()
	end := len(stream) - 3*512
	return append(all,
		made("vmdk of 100 bytes", vmdk(), "no CID").cut(100),
		made("vmdk with a footer that says more than its header", with(stream, patch{end + 512 + 12: le64(4096)}), "footer says"),
		made("vmdk with a footer whose directory is behind the end", with(stream, patch{end + 512 + 56: le64(1 << 30)}), "directory"),
		made("vmdk with a footer that is none", with(stream, patch{end + 12: le32(7)}), "no footer"),
		made("vmdk of ESX with grains of no bytes", esx(patch{16: le32(0)}), "grains"),
		made("vmdk of ESX with its directory behind the end", esx(patch{20: ^le32(0)}), "directory"),
		made("vmdk of ESX of 2 TiB in one table", esx(patch{12: ^le32(0)}), "grains"),
	)
}

// streamed is an image as it is sent, whose directory is named at its end.
func streamed() []byte {
	head := with(vmdk(), patch{4: le32(3), 8: le32(3 | 3<<16), 56: ^le64(0), 77: le16(1)})
	foot := with(head[:512], patch{56: le64(26)})
	marker := with(make([]byte, 512), patch{12: le32(3)})
	return append(append(append(head, marker...), foot...), make([]byte, 512)...)
}

// esx is an extent of ESX.
func esx(p patch) []byte {
	return with(with(make([]byte, 8192), patch{0: "COWD", 4: le32(1), 12: le32(2048), 16: le32(1), 20: le32(4), 24: le32(1), 512: vmdkText}), p)
}
