package dir

import (
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"storaged/internal/diskio"
)

// sysfs is where the kernel tells of devices.
const sysfs = "/sys"

// diskOf finds the whole device that carries a file, as major:minor; "" if
// there is none (tmpfs, network).
func diskOf(f *os.File) string {
	dev, err := diskio.DeviceOf(f)
	if err != nil || dev == "" {
		return ""
	}
	return wholeDisk(sysfs, dev)
}

// underLoop is the device that carries the file behind a loop device, "" for
// any other device and for a file that is gone or lies in memory.
func underLoop(path string) string {
	file, err := os.ReadFile(filepath.Join(path, "loop/backing_file"))
	if err != nil {
		return ""
	}
	fd, err := unix.Open(strings.TrimSuffix(string(file), "\n"), unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	f := os.NewFile(uintptr(fd), "file of a loop device")
	defer f.Close()
	dev, err := diskio.DeviceOf(f)
	if err != nil {
		return ""
	}
	return dev
}

// maxStack bounds how deep devices lie upon each other.
const maxStack = 16

// wholeDisk goes from a partition to its disk, from a loop device to the one
// that carries its file, and from a mapped device to the one below it, as far
// as that is a single one: of an array over several, the array is what is
// shared.
func wholeDisk(sysfs, dev string) string {
	for range maxStack {
		path, err := filepath.EvalSymlinks(filepath.Join(sysfs, "dev/block", dev))
		if err != nil {
			return ""
		}
		if _, err := os.Stat(filepath.Join(path, "partition")); err == nil {
			path = filepath.Dir(path)
		}
		if carrier := underLoop(path); carrier != "" {
			dev = carrier
			continue
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
