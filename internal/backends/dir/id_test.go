package dir

import (
	"errors"
	"testing"

	"storaged/internal/backends"
	"storaged/internal/testenv"
)

// The numbers alone do not tell: the second file system gets the device of the
// first, and its root the same inode.
func TestAnotherFileSystemAtThePoolsPlaceIsNotThePool(t *testing.T) {
	for _, kind := range []string{"tmpfs", "ext4", "ext2", "xfs", "btrfs"} {
		t.Run(kind, func(t *testing.T) {
			own, others := testenv.Image(t, kind), testenv.Image(t, kind)
			p := backends.Pool{Type: "dir", Target: t.TempDir()}
			mounted := func(image string, look func()) {
				testenv.MountImage(t, image, p.Target)
				defer testenv.Unmount(t, p.Target)
				look()
			}
			mounted(own, func() { p.ID = refreshed(t, p).ID })
			p.ID.Device = 0 // a loop device has any number
			mounted(others, func() {
				if _, err := (Backend{}).Refresh(t.Context(), p, nothing); !errors.Is(err, backends.ErrReplaced) {
					t.Errorf("another %s: %v", kind, err)
				}
				old := p
				old.ID.Stamp = "" // as an earlier version recorded it
				refreshed(t, old)
			})
			if own != "" {
				mounted(own, func() { refreshed(t, p) })
			}
		})
	}
}

func nothing(backends.VolumeInfo) error { return nil }

func refreshed(t *testing.T, p backends.Pool) backends.PoolInfo {
	t.Helper()
	info, err := Backend{}.Refresh(t.Context(), p, nothing)
	if err != nil {
		t.Fatal(err)
	}
	return info
}
