package blockdev

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// place is where a device keeps what it holds: a part of a file, or of a device that is no
// part of anything. Two devices that meet are one for who destroys what is there.
type place struct {
	base     string // the file, or the device's major:minor
	from, to int64  // bytes
}

// meets reports whether both have something in common.
func (p place) meets(o place) bool { return p.base == o.base && p.from < o.to && o.from < p.to }

// within is the part of a place between two ends, counted from its start.
func (p place) within(from, to int64) place {
	start := p.from
	p.from = start + from
	if to < math.MaxInt64-start {
		p.to = min(p.to, start+to)
	}
	return p
}

// placeOf goes from a partition to its disk, and from a loop device to what it is made of.
// Of mapped devices and arrays those below count as such that have a user (Uses).
func (s Sysfs) placeOf(d Device) place { return s.placed(d, maxStack) }

func (s Sysfs) placed(d Device, depth int) place {
	if disk := d.whole(); disk != d {
		return s.placed(disk, depth).within(d.part())
	}
	l, ok := d.loop()
	if !ok {
		return place{d.Attribute("dev"), 0, math.MaxInt64}
	}
	from, to := l.part()
	if l.device == "" || depth == 0 {
		return place{l.file, from, to}
	}
	below, ok := s.Device(l.device)
	if !ok {
		return place{l.device, from, to} // it has gone, and the loop device is left
	}
	return s.placed(below, depth-1).within(from, to)
}

// part is where a partition lies on its disk, bytes: all of it where the kernel does not say.
func (d Device) part() (from, to int64) {
	start, err := strconv.ParseInt(d.Attribute("start"), 10, 64)
	size, err2 := strconv.ParseInt(d.Attribute("size"), 10, 64)
	if err != nil || err2 != nil {
		return 0, math.MaxInt64
	}
	return start * partUnit, (start + size) * partUnit
}

// loop is what a loop device is made of (loop(4)), bytes.
type loop struct {
	file, device string // one of them: what tells the file from others, or major:minor
	offset, size int64  // size 0: to the end
}

func (l loop) part() (from, to int64) {
	if l.size == 0 {
		return l.offset, math.MaxInt64
	}
	return l.offset, l.offset + l.size
}

// loop gives it of a loop device that has something; ok is false for any other. The kernel is
// asked, who looks at the file: one that somebody else answers for is known by its path alone.
func (d Device) loop() (l loop, ok bool) {
	backing := d.Backing()
	if backing == "" {
		return l, false
	}
	number := func(name string) int64 { n, _ := strconv.ParseInt(d.Attribute(name), 10, 64); return n }
	l = loop{file: backing, offset: number("loop/offset"), size: number("loop/sizelimit")}
	if slices.ContainsFunc(remoteMounts(), func(at string) bool { return beneath(backing, at) }) {
		return l, true
	}
	f, err := os.OpenFile(filepath.Join("/dev", d.Kernel()), os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return l, true // nobody may ask
	}
	defer f.Close() // it was only asked
	info, err := unix.IoctlLoopGetStatus64(int(f.Fd()))
	switch {
	case err != nil:
		return l, false // it has let go of its file just now
	case info.Rdevice != 0:
		l.device = number64(info.Rdevice)
	default:
		l.file = number64(info.Device) + "/" + strconv.FormatUint(info.Inode, 10)
	}
	return l, true
}

func number64(dev uint64) string { return number(unix.Major(dev), unix.Minor(dev)) }

// meeting are the devices that have something in common with one, which is the first: its
// partitions, the disk that it is one of, and loop devices that are made of the same.
func (s Sysfs) meeting(d Device) []Device {
	all, at := []Device{d}, s.placeOf(d)
	names, _ := filepath.Glob(filepath.Join(string(s), "dev/block/*")) // the pattern is good
	for _, name := range names {
		if o, ok := s.Device(filepath.Base(name)); ok && o != d && at.meets(s.placeOf(o)) {
			all = append(all, o)
		}
	}
	return all
}

// looped are the loop devices of a group that were made of others of it, but for those that
// the first of it is made of itself.
func (s Sysfs) looped(group []Device) (uses []Use) {
	below := s.beneath(group[0])
	for _, d := range group[1:] {
		l, ok := d.loop()
		on, made := among(group, l.device)
		if ok && made && !slices.Contains(below, d) {
			uses = append(uses, Use{Who: "loop device " + d.Node() + on.as(group), Release: "losetup --detach " + d.Node()})
		}
	}
	return uses
}

// beneath are the loop devices, and disks of partitions, that a device is made of.
func (s Sysfs) beneath(d Device) (below []Device) {
	for range maxStack {
		next, ok := d.whole(), true
		if next == d {
			l, _ := d.loop() // of what is none the device is "", which is not there
			next, ok = s.Device(l.device)
		}
		if !ok {
			break
		}
		d = next
		below = append(below, d)
	}
	return below
}
