package dir

import (
	"os"
	"path/filepath"
	"testing"

	"storaged/internal/backends"
	"storaged/internal/testenv"
)

// fakeSysfs is a tree as the kernel makes it: sda with a partition, a mapped
// device on that partition, another on top of it, and one over two disks.
func fakeSysfs(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	device := func(path, dev string, below ...string) {
		dir := filepath.Join(root, "devices", path)
		must(os.MkdirAll(filepath.Join(dir, "slaves"), 0o755))
		must(os.WriteFile(filepath.Join(dir, "dev"), []byte(dev+"\n"), 0o600))
		for _, b := range below {
			must(os.Symlink(filepath.Join(root, "devices", b), filepath.Join(dir, "slaves", filepath.Base(b))))
		}
		must(os.Symlink(dir, filepath.Join(root, "dev/block", dev)))
	}
	must(os.MkdirAll(filepath.Join(root, "dev/block"), 0o755))
	device("pci/sda", "8:0")
	device("pci/sda/sda1", "8:1")
	must(os.WriteFile(filepath.Join(root, "devices/pci/sda/sda1/partition"), []byte("1\n"), 0o600))
	device("pci/sdb", "8:16")
	device("virtual/dm-0", "253:0", "pci/sda/sda1")
	device("virtual/dm-1", "253:1", "virtual/dm-0")
	device("virtual/dm-2", "253:2", "pci/sda/sda1", "pci/sdb")
	device("virtual/dm-3", "253:3", "virtual/dm-3") // cannot be
	device("virtual/loop0", "7:0")
	must(os.Mkdir(filepath.Join(root, "devices/virtual/loop0/loop"), 0o755))
	must(os.WriteFile(filepath.Join(root, "devices/virtual/loop0/loop/backing_file"), []byte("/gone (deleted)\n"), 0o600))
	return root
}

func TestWholeDiskBelowADevice(t *testing.T) {
	sys := fakeSysfs(t)
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
	} {
		if got := wholeDisk(sys, dev); got != want {
			t.Errorf("%s lies on %q, want %q", dev, got, want)
		}
	}
}

// A file system in a file lies on the disk of the file.
func TestDiskOfRealFileSystems(t *testing.T) {
	tmp, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer tmp.Close()
	disk := diskOf(tmp)
	testenv.Need(t, "a temporary directory on a disk", disk != "")
	for kind, want := range map[string]string{"ext4": disk, "btrfs": disk, "xfs": disk, "tmpfs": ""} {
		t.Run(kind, func(t *testing.T) {
			p := backends.Pool{Type: "dir", Target: testenv.Mount(t, kind)}
			info, err := New().Refresh(t.Context(), p, func(backends.VolumeInfo) error { return nil })
			if err != nil {
				t.Fatal(err)
			}
			if info.Disk != want {
				t.Errorf("it lies on %q, want %q", info.Disk, want)
			}
		})
	}
}
