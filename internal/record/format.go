package record

import "slices"

// FormatRaw is the format of bytes that no header describes.
const FormatRaw = "raw"

// Formats are those that the header of an image tells, and raw.
var Formats = []string{FormatRaw, "qcow2", "qcow", "qed", "vmdk", "vdi", "vhdx", "vpc", "luks", "parallels", "iso"}

// What of the bytes of a volume that is an image a job takes.
const (
	AsRaw  = "raw"  // the content that a guest sees, in whatever format it is stored
	AsFile = "file" // those of the image's file, as they are
)

// IsImage reports whether a volume in a format has another content than its file;
// "" is no format.
func IsImage(format string) bool { return format != "" && !Plain(format) }

// What can be done with the content of volumes in a format.
const (
	VerbRead     = "read"
	VerbWrite    = "write"
	VerbGrow     = "grow"
	VerbShrink   = "shrink"
	VerbAllocate = "allocate" // what is new when it grows
	VerbTrim     = "trim"     // space comes back where the content is zeros
)

// FormatsChecked are those whose tables can be checked.
var FormatsChecked = []string{"qcow2", "qed", "vdi", "vhdx", "vmdk", "parallels"}

// FormatsDetachable are those of images that stand on others whose header can be given
// another backing, or none.
var FormatsDetachable = []string{"qcow2", "qed"}

// What of an image's tables is repaired.
const (
	RepairLeaks = "leaks" // what is allocated and not used is given back
	RepairAll   = "all"   // what is corrupt too, as far as it can be
)

// Tables is what a check of the tables of an image has found. What was repaired does
// not count as found.
type Tables struct {
	Errors              int64 `json:"errors"`      // places that could not be checked
	Corruptions         int64 `json:"corruptions"` // that stay
	Leaks               int64 `json:"leaks"`       // clusters that are allocated and not used, and stay so
	RepairedCorruptions int64 `json:"repaired_corruptions"`
	RepairedLeaks       int64 `json:"repaired_leaks"`
	Clusters            int64 `json:"clusters,omitempty"`  // of the content; 0 where the format does not say
	Allocated           int64 `json:"allocated,omitempty"` // of those
}

// FormatVerbs are what can be done with the content of volumes in a format.
type FormatVerbs struct {
	Format string   `json:"format"`
	Verbs  []string `json:"verbs"`
}

// ContentVerbs are those of every format. They are what the drivers of QEMU can do,
// whatever the type of the pool.
func ContentVerbs() []FormatVerbs {
	all := []string{VerbRead, VerbWrite, VerbGrow, VerbShrink, VerbAllocate, VerbTrim}
	return []FormatVerbs{
		{FormatRaw, all},
		{"qcow2", all},
		{"qed", all[:3]},
		{"vmdk", all[:2]},
		{"vdi", all[:2]},
		{"vhdx", all[:2]},
		{"vpc", all[:2]},
		{"qcow", all[:2]},
		{"parallels", all[:2]},
		{"luks", all[:5]},
		{"iso", []string{VerbRead, VerbTrim}},
	}
}

// FormatCan reports whether something can be done with the content of volumes in a
// format.
func FormatCan(format, verb string) bool {
	for _, f := range ContentVerbs() {
		if f.Format == format {
			return slices.Contains(f.Verbs, verb)
		}
	}
	return false
}

// FormatsThatCan are the formats with whose content something can be done.
func FormatsThatCan(verb string) (formats []string) {
	for _, f := range ContentVerbs() {
		if slices.Contains(f.Verbs, verb) {
			formats = append(formats, f.Format)
		}
	}
	return formats
}

// Plain reports whether a file in a format has the bytes that a guest sees, and
// is as long as the guest's disk.
func Plain(format string) bool { return format == FormatRaw || format == "iso" }
