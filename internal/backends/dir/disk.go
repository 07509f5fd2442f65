package dir

import (
	"os"
	"path/filepath"
	"strings"

	"storaged/internal/diskio"
)

// sysfs is where the kernel tells of devices.
const sysfs = "/sys"

// diskOf finds the whole device that carries a file, as major:minor; "" if
// there is none (tmpfs, network) or more than one.
func diskOf(f *os.File) string {
	dev, err := diskio.DeviceOf(f)
	if err != nil || dev == "" {
		return ""
	}
	return wholeDisk(sysfs, dev)
}

// maxStack bounds how deep devices lie upon each other.
const maxStack = 16

// wholeDisk goes from a partition to its disk and from a mapped device to the
// one below it, as far as that is a single one.
func wholeDisk(sysfs, dev string) string {
	for range maxStack {
		path, err := filepath.EvalSymlinks(filepath.Join(sysfs, "dev/block", dev))
		if err != nil {
			return ""
		}
		if _, err := os.Stat(filepath.Join(path, "partition")); err == nil {
			path = filepath.Dir(path)
		}
		below, err := filepath.Glob(filepath.Join(path, "slaves/*/dev"))
		if err != nil {
			return "" // the kernel's path looks like a pattern
		}
		if len(below) == 1 {
			path = filepath.Dir(below[0])
		}
		next, err := os.ReadFile(filepath.Join(path, "dev"))
		if err != nil {
			return ""
		}
		dev = strings.TrimSpace(string(next))
		if len(below) != 1 {
			return dev
		}
	}
	return dev
}
