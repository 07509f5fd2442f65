package formattest

// footer is that of a fixed VHD of n bytes.
func footer(n uint64, kind uint32) []byte {
	b := with(make([]byte, 512), patch{0: "conectix", 8: uint32(2), 12: uint32(1 << 16), 16: ^uint64(0), 28: "win ", 40: n, 48: n, 60: kind})
	return summed(b)
}

// summed gives a footer its checksum.
func summed(b []byte) []byte {
	sum := uint32(0)
	for i, c := range b[:512] {
		if i < 64 || i >= 68 {
			sum += uint32(c)
		}
	}
	return with(b, patch{64: ^sum})
}

// polyglots are two things at once.
func polyglots(b Bait) []Hostile {
	const two = "two things at once"
	wide := with(qcow2(mib, 65536*4), patch{ // clusters of 64 KiB: a CD's mark is in the first
		20: uint32(16), 36: uint32(1), 40: uint64(3 << 16), 48: uint64(1 << 16), 512: uint64(0), 1024: uint64(0), 1 << 16: uint64(2 << 16),
	})
	iso := patch{32768: "\x01CD001\x01"}
	end := patch{len(sound()) - 512: string(footer(uint64(len(sound())-512), 2))}
	text := append([]byte("# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=1\ncreateType=\"monolithicFlat\"\nRW 8 FLAT \""+b.File+"\" 0\n"), make([]byte, 65536)...)
	return []Hostile{
		made("qcow2 and a CD", with(wide, iso), two),
		made("qcow2 on a file, and a CD", backed(with(wide, iso), b.File), two).on(b.File),
		made("qcow2 and a partition table", with(wide, patch{510: "\x55\xaa"}), two),
		made("qcow2 and a GPT", with(wide, patch{512: "EFI PART"}), two),
		made("qcow2 and a file system", with(wide, patch{1080: "\x53\xef"}), two),
		made("qcow2 and a volume of LVM", with(wide, patch{512: "LABELONE"}), two),
		made("qcow2 and a fixed VHD", with(sound(), end), two),
		made("qcow2 and a VDI", with(sound(), patch{64: "\x7f\x10\xda\xbe"}), two),
		made("qcow and a CD", with(append(qcow1(), make([]byte, 65536)...), iso), two),
		made("qed and a GPT", with(qed(), patch{512: "EFI PART"}), two),
		made("vmdk and a CD", with(append(vmdk(), make([]byte, 65536)...), iso), two),
		made("vmdk in text and a partition table", with(text, patch{510: "\x55\xaa"}), two).in(b.File),
		made("vmdk in text and a CD", with(text, iso), two).in(b.File),
		made("vdi and a CD", with(append(vdi(), make([]byte, 65536)...), iso), two),
		made("vdi and a partition table", with(vdi(), patch{510: "\x55\xaa"}), two),
		made("vpc and a CD", with(append(vpc(), make([]byte, 65536)...), iso), two),
		made("vhdx and a partition table", with(vhdx(vhdxParts{}), patch{510: "\x55\xaa"}), two),
		made("vhdx and a CD", with(vhdx(vhdxParts{}), iso), two),
		made("luks and a GPT", with(luks(), patch{512: "EFI PART"}), two),
	}
}

// planted are raw disks into which a guest has written what others would take for
// the header of an image.
func planted(b Bait) []Hostile {
	disk := with(make([]byte, 1<<20), patch{510: "\x55\xaa", 512: "EFI PART"})
	over := func(head []byte) []byte { return append(append([]byte(nil), head...), disk[len(head):]...) }
	end := with(disk, patch{len(disk) - 512: string(footer(uint64(len(disk)-512), 2))})
	return []Hostile{
		made("qcow2 in a raw disk, with a backing", over(backed(sound(), b.File)[:400]), "two things at once").on(b.File),
		made("qcow2 in the boot sector of a raw disk", with(over(backed(sound(), b.File)[:508]), patch{40: uint64(4096), 48: uint64(4096)}), "two things at once").on(b.File),
		made("vmdk in the boot sector of a raw disk", over([]byte("version=1\nCID=1\nparentCID=1\ncreateType=\"monolithicFlat\"\nRW 8 FLAT \""+b.File+"\" 0\n")), "two things at once").in(b.File),
		made("vmdk behind comments in a raw disk", over([]byte("#\n#\n\nversion=3\nCID=1\nparentCID=1\ncreateType=\"vmfs\"\nRW 8 VMFS \""+b.File+"\"\n")), "two things at once").in(b.File),
		made("vpc at the end of a raw disk", end, ""),
		made("luks in a raw disk", over(luks()[:512]), "key slot"),
		made("raw with the magic of qcow2 in its second sector", with(make([]byte, 8192), patch{512: "QFI\xfb\x00\x00\x00\x03"}), ""),
		made("raw that is LUKS 2", append([]byte("LUKS\xba\xbe\x00\x02"), make([]byte, 8192)...), ""),
		made("raw with half a footer at its end", with(end, patch{len(disk) - 400: "x"}), ""),
		made("iso with a partition table", with(append(disk[:512:512], make([]byte, 65536)...), patch{32768: "\x01CD001\x01"}), ""),
	}
}
