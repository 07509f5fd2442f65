package record

// FormatRaw is the format of bytes that no header describes.
const FormatRaw = "raw"

// Formats are those that the header of an image tells, and raw.
var Formats = []string{FormatRaw, "qcow2", "qcow", "qed", "vmdk", "vdi", "vhdx", "vpc", "luks", "parallels", "iso"}

// Plain reports whether a file in a format has the bytes that a guest sees, and
// is as long as the guest's disk.
func Plain(format string) bool { return format == FormatRaw || format == "iso" }
