package blockdev

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Sysfs is a tree in which the kernel describes devices.
type Sysfs string

// System is that of this machine.
const System Sysfs = "/sys"

// Device is a block device, by its directory in sysfs.
type Device struct{ path string }

// Device finds one by its major:minor.
func (s Sysfs) Device(number string) (d Device, ok bool) {
	if number == "" {
		return d, false
	}
	path, err := filepath.EvalSymlinks(filepath.Join(string(s), "dev/block", number))
	return Device{path}, err == nil
}

// Kernel is the kernel's name of the device, such as dm-0.
func (d Device) Kernel() string { return filepath.Base(d.path) }

// Node is the path by which people know the device.
func (d Device) Node() string {
	if mapped := d.Attribute("dm/name"); mapped != "" {
		return "/dev/mapper/" + mapped
	}
	return "/dev/" + d.Kernel()
}

// Attribute reads one of the device, "" if it has none.
func (d Device) Attribute(name string) string {
	b, _ := os.ReadFile(filepath.Join(d.path, name))
	return strings.TrimSuffix(string(b), "\n")
}

// Backing is the file behind a loop device, "" for any other.
func (d Device) Backing() string { return d.Attribute("loop/backing_file") }

// whole is the device itself, or the disk that it is a partition of.
func (d Device) whole() Device {
	if d.Attribute("partition") != "" {
		return Device{filepath.Dir(d.path)}
	}
	return d
}

// Below are the devices that a mapped device or an array is made of.
func (d Device) Below() (list []Device) {
	slaves := filepath.Join(d.path, "slaves")
	entries, _ := os.ReadDir(slaves) // there is none where nothing lies below
	for _, e := range entries {
		if path, err := filepath.EvalSymlinks(filepath.Join(slaves, e.Name())); err == nil {
			list = append(list, Device{path})
		}
	}
	return list
}

// Stack is the device with all that lies below it, disks in place of their
// partitions, the upper ones first. It ends at the file behind a loop device.
func (d Device) Stack() []Device { return d.stack(nil) }

// stack adds to what was found already, in which each device is once.
func (d Device) stack(found []Device) []Device {
	d = d.whole()
	if slices.Contains(found, d) {
		return found
	}
	found = append(found, d)
	for _, b := range d.Below() {
		found = b.stack(found)
	}
	return found
}

// DiskOf gives the disk that carries a file, as major:minor; "" if there is
// none (tmpfs, network).
func DiskOf(f *os.File) string {
	dev, err := Of(f)
	if err != nil {
		return ""
	}
	return System.Disk(dev)
}

// maxStack bounds how deep devices lie upon each other.
const maxStack = 16

// Disk goes from a partition to its disk, from a loop device to the one that
// carries its file, and from a mapped device to the one below it, as far as that
// is a single one: of an array over several, the array is what is shared.
func (s Sysfs) Disk(dev string) string {
	for range maxStack {
		d, ok := s.Device(dev)
		if !ok {
			return ""
		}
		d = d.whole()
		if carrier := d.carrier(); carrier != "" {
			dev = carrier
			continue
		}
		below := d.Below()
		if len(below) != 1 {
			return d.Attribute("dev")
		}
		dev = below[0].Attribute("dev")
	}
	return dev
}

// carrier is the device that carries the file behind a loop device, "" for any
// other device and for a file that is gone or lies in memory.
func (d Device) carrier() string {
	file := d.Backing()
	if file == "" {
		return ""
	}
	fd, err := unix.Open(file, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	f := os.NewFile(uintptr(fd), "file of a loop device")
	defer f.Close() // nothing was written
	dev, err := Of(f)
	if err != nil {
		return ""
	}
	return dev
}
