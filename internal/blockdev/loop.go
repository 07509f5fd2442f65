package blockdev

import (
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// loop is the part of a file that a loop device is (loop(4)).
type loop struct{ device, inode, from, to uint64 }

// loop gives it of a loop device, or of one that the device is a partition of; ok is false
// for any other, and where nobody may ask.
func (d Device) loop() (l loop, ok bool) {
	disk := d.whole()
	if disk.Backing() == "" {
		return l, false
	}
	f, err := os.OpenFile("/dev/"+disk.Kernel(), os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return l, false
	}
	defer f.Close() // it was only asked
	info, err := unix.IoctlLoopGetStatus64(int(f.Fd()))
	if err != nil {
		return l, false // it has let go of its file just now
	}
	l = loop{info.Device, info.Inode, info.Offset, math.MaxUint64}
	if info.Sizelimit > 0 {
		l.to = info.Offset + info.Sizelimit
	}
	return l, true
}

// meets reports whether both have a part of the same file in common.
func (l loop) meets(o loop) bool {
	return l.device == o.device && l.inode == o.inode && l.from < o.to && o.from < l.to
}
