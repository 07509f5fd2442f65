package filetree

import (
	"os"
	"testing"

	"storaged/internal/backends"
	"storaged/internal/blockdev"
	"storaged/internal/testenv"
)

// A file system in a file lies on the disk of the file.
func TestDiskOfRealFileSystems(t *testing.T) {
	tmp, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer tmp.Close()
	disk := blockdev.DiskOf(tmp)
	testenv.Need(t, "a temporary directory on a disk", disk != "")
	for kind, want := range map[string]string{"ext4": disk, "btrfs": disk, "xfs": disk, "tmpfs": ""} {
		t.Run(kind, func(t *testing.T) {
			p := backends.Pool{Type: "dir", Target: testenv.Mount(t, kind)}
			info, err := (Tree{}).Refresh(t.Context(), p, func(backends.VolumeInfo) error { return nil })
			if err != nil {
				t.Fatal(err)
			}
			if info.Disk != want {
				t.Errorf("it lies on %q, want %q", info.Disk, want)
			}
		})
	}
}
