package blockdev_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"storaged/internal/blockdev"
	"storaged/internal/blockdev/blockdevtest"
	"storaged/internal/testenv"
)

// What stands on a device is named as what it is. No device of this machine has the
// numbers.
func TestWhatStandsOnADeviceUsesIt(t *testing.T) {
	tree := blockdevtest.New(t)
	tree.Device("pci/sdx", "4001:0", nil)
	tree.Device("pci/sdx/sdx1", "4001:1", blockdevtest.Attributes{"partition": "1"})
	tree.Device("pci/sdy", "4001:16", nil)
	tree.Device("pci/sdz", "4001:32", nil)
	tree.Device("pci/sdw", "4001:48", nil)
	tree.Device("pci/sdv", "4001:64", nil)
	tree.Device("virtual/dm-0", "4002:0", blockdevtest.Attributes{"dm/name": "vg-lv", "dm/uuid": "LVM-abc"}, "pci/sdx/sdx1")
	tree.Device("virtual/dm-1", "4002:1", blockdevtest.Attributes{"dm/name": "mpatha", "dm/uuid": "mpath-36"}, "pci/sdy")
	tree.Device("virtual/dm-2", "4002:2", blockdevtest.Attributes{"dm/name": "secret", "dm/uuid": "CRYPT-LUKS2"}, "pci/sdz")
	tree.Device("virtual/md0", "4003:0", blockdevtest.Attributes{"md/level": "raid1"}, "pci/sdw")
	for number, want := range map[string]string{
		"4001:0": "the logical volume /dev/mapper/vg-lv", "4001:1": "the logical volume /dev/mapper/vg-lv",
		"4001:16": "the multipath device /dev/mapper/mpatha", "4001:32": "the encrypted device /dev/mapper/secret",
		"4001:48": "the RAID array /dev/md0", "4001:64": "",
	} {
		got := ""
		for _, u := range tree.Sysfs().Uses(number) {
			got += u.Who
		}
		if got != want {
			t.Errorf("%s is used by %q, want %q", number, got, want)
		}
	}
}

// A claim keeps others away who ask for one, and ends with the device.
func TestClaim(t *testing.T) {
	file := filepath.Join(t.TempDir(), "disk")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Truncate(file, 1<<20)); err != nil {
		t.Fatal(err)
	}
	device, _ := testenv.Attach(t, file)
	exclusive := func() error {
		f, err := os.OpenFile(device, os.O_RDWR|unix.O_EXCL, 0)
		if err == nil {
			err = f.Close()
		}
		return err
	}
	n, err := blockdev.Claim(device)
	if err != nil {
		t.Fatal(err)
	}
	if n.Size != 1<<20 || !n.Overlaps(device) || n.Overlaps("/no/such") {
		t.Errorf("%+v", n)
	}
	if err := exclusive(); !errors.Is(err, unix.EBUSY) {
		t.Errorf("another one beside a claim: %v", err)
	}
	if err := errors.Join(n.Same(), n.Yield(), exclusive(), n.Close()); err != nil {
		t.Error(err)
	}
	if _, err := blockdev.Claim(file); !errors.Is(err, unix.ENOTBLK) {
		t.Errorf("a file: %v", err)
	}
	f, err := os.OpenFile(device, os.O_RDWR|unix.O_EXCL, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := blockdev.Claim(device); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a claim beside another: %v", err)
	}
}

// Mounts are read with all that is in their names.
func TestMountsAreListedByTheirPoints(t *testing.T) {
	testenv.Root(t)
	dir := filepath.Join(t.TempDir(), "a b\\c")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	testenv.MountImage(t, "", dir)
	defer testenv.Unmount(t, dir)
	i := slices.IndexFunc(blockdev.Mounts(), func(m blockdev.Mount) bool { return m.Point == dir })
	if i < 0 || blockdev.Mounts()[i].Kind != "tmpfs" || blockdev.Mounts()[i].Carrier() != "" {
		t.Errorf("it is not listed")
	}
}

// Two loop devices over one file are one device for who makes pools of them, unless each is
// another part of it.
func TestLoopDevicesOverOneFileOverlap(t *testing.T) {
	dir := t.TempDir()
	file, other := filepath.Join(dir, "disk"), filepath.Join(dir, "other")
	for _, path := range []string{file, other} {
		if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, 2<<20)); err != nil {
			t.Fatal(err)
		}
	}
	attached := func(path string, options ...string) string {
		device, _ := testenv.Attach(t, path, options...)
		return device
	}
	all, again := attached(file), attached(file)
	first, second := attached(file, "--sizelimit", "1048576"), attached(file, "--offset", "1048576")
	elsewhere := attached(other)
	for _, c := range []struct {
		a, b string
		want bool
	}{{all, again, true}, {all, second, true}, {first, all, true}, {first, second, false}, {all, elsewhere, false}} {
		n, err := blockdev.OpenNode(c.a)
		if err != nil {
			t.Fatal(err)
		}
		if got := n.Overlaps(c.b); got != c.want {
			t.Errorf("%s and %s overlap: %v", c.a, c.b, got)
		}
		n.Close()
	}
}
