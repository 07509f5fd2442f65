package format

// readPlain is for bytes that no header describes: there are as many as the file
// has.
func readPlain(h *header) { h.Capacity = max(h.size, 0) }

// mark is what a disk has that is no image: whoever finds it beside the header of
// one cannot know what he has before him.
type mark struct {
	name       string
	partitions bool
	is         func(s *source) bool
	// ours reports whether an image in that format may have the bytes for other
	// reasons.
	ours func(i Image) bool
}

// marks lie where no image has content of its guest.
var marks = []mark{
	{"gpt", true, magic("EFI PART", 512), never},
	{"gpt", true, magic("EFI PART", 4096), func(i Image) bool { return true }},              // sectors of 4 KiB; elsewhere a guest's content
	{"mbr", true, magic("\x55\xaa", 510), func(i Image) bool { return i.Format == "luks" }}, // a key slot's salt
	{"a volume of LVM", false, magic("LABELONE", 512), never},
	{"a file system (ext)", false, magic("\x53\xef", 1080), mapThere},
}

func never(Image) bool { return false }

// mapThere reports whether an image in that format has numbers of any value at
// 1080.
func mapThere(i Image) bool {
	return i.Format == "vdi" || i.Format == "parallels" || i.Format == "qcow2" && i.ClusterSize < 2048
}
