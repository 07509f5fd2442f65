package filetree

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
			p.ID = (Tree{}).Lasting(p.ID) // a loop device has any number
			mounted(others, func() {
				if _, err := (Tree{}).Refresh(t.Context(), p, nothing); !errors.Is(err, backends.ErrReplaced) {
					t.Errorf("another %s: %v", kind, err)
				}
				old := p
				id, err := parseID(old.ID)
				if err != nil {
					t.Fatal(err)
				}
				id.stamp = ""
				old.ID = id.identity() // as an earlier version recorded it
				refreshed(t, old)
			})
			if own != "" {
				mounted(own, func() { refreshed(t, p) })
			}
		})
	}
}

// Each part tells alone, where another is not known or may have changed.
func TestEachPartOfAnIdentityTellsAnotherDirectory(t *testing.T) {
	p, other := newPool(t), newPool(t)
	text := refreshed(t, p).ID
	id, err := parseID(text)
	if err != nil {
		t.Fatal(err)
	}
	for _, known := range []objectID{id, {inode: id.inode}, {inode: id.inode, stamp: id.stamp}} {
		other.ID = known.identity()
		if _, err := (Tree{}).Refresh(t.Context(), other, nothing); !errors.Is(err, backends.ErrReplaced) {
			t.Errorf("known as %s: %v", other.ID, err)
		}
	}
	p.ID = objectID{device: id.device + 1}.identity()
	if _, err := (Tree{}).Refresh(t.Context(), p, nothing); !errors.Is(err, backends.ErrReplaced) {
		t.Errorf("on another device: %v", err)
	}
	b := Tree{}
	if !b.Together(text, refreshed(t, newPool(t)).ID) || b.Together(b.Lasting(text), b.Lasting(text)) || b.Together("", "") || b.Together("x", "x") {
		t.Error("what lies on one file system is not known")
	}
}

// Blocks are shared within a file system, which may have several devices if none is its
// own.
func TestFileSystemsThatShareNoBlocksAreKnown(t *testing.T) {
	for _, c := range []struct {
		a, b  backends.Identity
		apart bool
	}{
		{"2049:2", "2050:2", true}, // major 8
		{"2049:2", "41:256", true}, // one is of a device, the other is not
		{"41:256", "2049:2:a", true},
		{"41:256", "42:256", false}, // subvolumes, perhaps of one btrfs
		{"2049:2", "2049:7", false},
		{"2049:2", "0:2", false}, // since a reboot
		{"2049:2", "", false},
		{"2049:2", "vg0", false}, // of another driver
	} {
		if got := (Tree{}).Apart(c.a, c.b); got != c.apart {
			t.Errorf("%q and %q: %t", c.a, c.b, got)
		}
	}
}

func TestNoIdentityIsNoPools(t *testing.T) {
	b := Tree{}
	for _, text := range []backends.Identity{"x", "8", "8:", ":2", "-8:2", "8:2x", "8:\x1b[2J"} {
		err := b.CheckIdentity(text)
		if err == nil || b.Same(text, "8:2") || b.Same("8:2", text) || b.Same(text, text) || b.Lasting(text) != text {
			t.Errorf("%q: %v", text, err)
		}
	}
	for _, text := range []backends.Identity{"", "8:2", "0:2", "8:2:2b99", "8:2:~9fa0:1"} {
		if err := b.CheckIdentity(text); err != nil || !b.Same(text, text) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func nothing(backends.VolumeInfo) error { return nil }

func refreshed(t *testing.T, p backends.Pool) backends.PoolInfo {
	t.Helper()
	info, err := (Tree{}).Refresh(t.Context(), p, nothing)
	if err != nil {
		t.Fatal(err)
	}
	return info
}
