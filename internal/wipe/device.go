package wipe

import (
	"fmt"
	"slices"
	"strings"

	"storaged/internal/blockdev"
	"storaged/internal/diskio"
)

// stack is a block device with what lies below it.
type stack struct {
	name   string // of the device itself, below /dev
	limits []Limit
}

// lookBelow goes down from dev, a major:minor. What the kernel does not say is
// not known and not noted.
func lookBelow(sysfs blockdev.Sysfs, dev string) (s stack) {
	d, ok := sysfs.Device(dev)
	if !ok {
		return s
	}
	s.name = d.Node()
	for _, x := range d.Stack() {
		s.note(x)
	}
	return s
}

// note adds the limits of one device.
func (s *stack) note(d blockdev.Device) {
	s.noteMapped(d)
	switch file := d.Backing(); {
	case file != "":
		s.add(Limit{Text: fmt.Sprintf("the device is a file, %q, whose own file system decides what is overwritten", file)})
	case len(d.Below()) == 0 && d.Attribute("queue/rotational") == "0":
		s.add(Limit{Text: "the disk says that it is no magnetic one; flash keeps spare blocks that no overwrite reaches"})
	}
}

// noteMapped adds what the name and uuid of a device tell. LVM ends the uuids
// of the hidden parts of its volumes with what they are (lvm2, lib/activate).
func (s *stack) noteMapped(d blockdev.Device) {
	name, uuid := d.Kernel(), d.Attribute("dm/uuid")
	switch {
	case strings.HasPrefix(name, "zd"):
		s.add(Limit{Text: overwriteNotes[diskio.ZFS], Certain: true})
	case strings.HasPrefix(uuid, "VDO-") || strings.HasPrefix(uuid, "LVM-") && strings.HasSuffix(uuid, "-vpool"):
		s.add(Limit{Text: "VDO writes changed blocks elsewhere; the old ones keep their data until they are used again", Certain: true})
	case strings.HasPrefix(uuid, "LVM-") && strings.HasSuffix(uuid, "-tpool"):
		s.add(Limit{Text: "the device is thin; blocks that it gave back or shares with a snapshot keep the old data"})
	case strings.HasPrefix(uuid, "LVM-") && (strings.HasSuffix(uuid, "-cow") || strings.HasSuffix(uuid, "-real")):
		s.add(Limit{Text: "the device has a snapshot, which keeps the old data of every block that is overwritten", Certain: true})
	}
}

// add adds a limit once.
func (s *stack) add(l Limit) {
	if !slices.Contains(s.limits, l) {
		s.limits = append(s.limits, l)
	}
}
