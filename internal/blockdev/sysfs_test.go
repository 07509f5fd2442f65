package blockdev_test

import (
	"slices"
	"testing"

	"storaged/internal/blockdev"
	"storaged/internal/blockdev/blockdevtest"
)

// devices are sda with a partition, a mapped device on that partition, another
// on top of it, one over two disks, and two that cannot be.
func devices(t *testing.T) blockdev.Sysfs {
	t.Helper()
	tree := blockdevtest.New(t)
	tree.Device("pci/sda", "8:0", nil)
	tree.Device("pci/sda/sda1", "8:1", blockdevtest.Attributes{"partition": "1"})
	tree.Device("pci/sdb", "8:16", nil)
	tree.Device("virtual/dm-0", "253:0", blockdevtest.Attributes{"dm/name": "vg-lv"}, "pci/sda/sda1")
	tree.Device("virtual/dm-1", "253:1", nil, "virtual/dm-0")
	tree.Device("virtual/dm-2", "253:2", nil, "pci/sda/sda1", "pci/sdb")
	tree.Device("virtual/dm-3", "253:3", nil, "virtual/dm-3") // cannot be
	tree.Device("virtual/loop0", "7:0", blockdevtest.Attributes{"loop/backing_file": "/gone (deleted)"})
	return tree.Sysfs()
}

func TestDiskBelowADevice(t *testing.T) {
	sys := devices(t)
	for dev, want := range map[string]string{
		"8:0":   "8:0",
		"8:1":   "8:0",
		"8:16":  "8:16",
		"253:0": "8:0",
		"253:1": "8:0",
		"253:2": "253:2", // two disks: the device itself is what is shared
		"253:3": "253:3",
		"7:0":   "7:0", // nobody knows any more where its file lies
		"9:9":   "",
		"":      "",
	} {
		if got := sys.Disk(dev); got != want {
			t.Errorf("%s lies on %q, want %q", dev, got, want)
		}
	}
}

func TestStackOfADevice(t *testing.T) {
	sys := devices(t)
	for dev, want := range map[string][]string{
		"8:1":   {"sda"},
		"253:1": {"dm-1", "dm-0", "sda"},
		"253:2": {"dm-2", "sda", "sdb"},
		"253:3": {"dm-3"},
		"7:0":   {"loop0"},
	} {
		d, ok := sys.Device(dev)
		var got []string
		for _, x := range d.Stack() {
			got = append(got, x.Kernel())
		}
		if !ok || !slices.Equal(got, want) {
			t.Errorf("%s has the stack %q, want %q", dev, got, want)
		}
	}
}

func TestNodeOfADevice(t *testing.T) {
	sys := devices(t)
	for dev, want := range map[string]string{"8:1": "/dev/sda1", "253:0": "/dev/mapper/vg-lv", "253:1": "/dev/dm-1"} {
		if d, ok := sys.Device(dev); !ok || d.Node() != want {
			t.Errorf("%s is %q, want %q", dev, d.Node(), want)
		}
	}
	for _, dev := range []string{"", "9:9"} {
		if d, ok := sys.Device(dev); ok {
			t.Errorf("%q is %q", dev, d.Node())
		}
	}
}
