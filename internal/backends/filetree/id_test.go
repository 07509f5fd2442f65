package filetree

import (
	"errors"
	"os"
	"path/filepath"
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

// Of what is on an overlay inodes and times of birth do not always stay.
func TestFilesAndPoolsAreKnownAgainOnOverlays(t *testing.T) {
	for _, upper := range []string{"ext4", "tmpfs"} {
		t.Run(upper, func(t *testing.T) {
			lower := testenv.Mount(t, "ext4")
			must(t, os.Mkdir(lower+"/pool", 0o755))
			must(t, os.WriteFile(lower+"/pool/found", []byte("x"), 0o600))
			for _, layer := range []string{lower, testenv.Mount(t, upper)} { // on the same file system, and on another
				overlaid(t, lower, layer)
			}
		})
	}
}

func overlaid(t *testing.T, lower, upper string) {
	top := testenv.Overlay(t, lower, upper)
	must(t, os.Mkdir(top+"/made", 0o755))
	for _, name := range []string{"pool", "made"} {
		p := backends.Pool{Type: "dir", Target: filepath.Join(top, name)}
		must(t, os.WriteFile(filepath.Join(p.Target, "v"), []byte("x"), 0o600))
		p.ID = refreshed(t, p).ID
		known := volumesIn(t, p)
		for _, write := range []bool{false, true} { // what is written of a lower layer gets a copy in the upper
			for _, id := range []backends.Identity{p.ID, Tree{}.Lasting(p.ID)} {
				p.ID = id
				isKnown(t, p, known, write)
			}
			must(t, os.WriteFile("/proc/sys/vm/drop_caches", []byte("2"), 0))
		}
		for name, id := range known {
			path := filepath.Join(p.Target, name)
			must(t, os.Remove(path))
			must(t, os.WriteFile(path, []byte("x"), 0o600)) // ext4 gives it the inode of the one that is gone
			if err := isStill(t, p, name, id, false); !errors.Is(err, backends.ErrChanged) || (Tree{}).Same(id, volumesIn(t, p)[name]) {
				t.Errorf("another %s is taken for the one known as %s: %v", path, id, err)
			}
		}
	}
}

// isKnown fails unless the pool and its volumes are known again.
func isKnown(t *testing.T, p backends.Pool, known map[string]backends.Identity, write bool) {
	t.Helper()
	for name, id := range known {
		if err := isStill(t, p, name, id, write); err != nil {
			t.Errorf("%s, known as %s (%s): %v", name, id, p.ID, err)
		}
	}
	for name, id := range volumesIn(t, p) {
		if !(Tree{}).Same(known[name], id) {
			t.Errorf("%s was %s and is %s", name, known[name], id)
		}
	}
}

// isStill opens a volume and asks whether it is the one known.
func isStill(t *testing.T, p backends.Pool, name string, id backends.Identity, write bool) error {
	t.Helper()
	access := backends.ReadShared
	if write {
		access = backends.WriteExclusive
	}
	v, err := (Tree{}).Open(t.Context(), p, name, access)
	if err != nil {
		return err
	}
	defer v.Close()
	return v.Is(id)
}

func volumesIn(t *testing.T, p backends.Pool) map[string]backends.Identity {
	t.Helper()
	all := map[string]backends.Identity{}
	_, err := (Tree{}).Refresh(t.Context(), p, func(v backends.VolumeInfo) error {
		all[v.Name] = v.ID
		return nil
	})
	must(t, err)
	return all
}

// What an earlier version has recorded, or one under an earlier kernel, has no handles.
func TestAnOverlaysHandleTellsAllWhereBothHaveIt(t *testing.T) {
	for _, c := range []struct {
		known, found backends.Identity
		same         bool
	}{
		{"41:5:=ab", "41:7:=ab", true},
		{"0:5:=ab", "42:7:=ab", true},
		{"41:5:=ab", "42:5:=ab", false}, // of another mount
		{"41:5:=ab", "41:5:=ac", false},
		{"41:5:1700", "41:5:=ab", true},
		{"41:5:1700", "41:7:=ab", false},
		{"41:5:=ab", "41:7:1700", false},
		{"0:5:~794c7630", "41:7:~794c7630", true},
	} {
		if got := (Tree{}).Same(c.known, c.found); got != c.same {
			t.Errorf("%q and %q: %t", c.known, c.found, got)
		}
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
		{"2049:2", "vg0", true}, // no directory
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

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
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
