package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"storaged/internal/record"
	"storaged/internal/testenv"
)

// A volume that a file system of the host stands on is in use, whatever is to
// be done with its content.
func TestVolumeBehindALoopDeviceIsBusy(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	other := h.otherPool("tmpfs")
	h.sparse("disk", 64*mib)
	testenv.Formatted(t, h.path("disk"), "ext4")
	device, detach := testenv.Attach(t, h.path("disk"))
	dir, unmount := testenv.MountedFrom(t, device)
	source := filepath.Join(t.TempDir(), "source")
	h.must(os.WriteFile(source, noise(mib), 0o600))
	h.must(os.WriteFile(filepath.Join(dir, "before"), noise(mib), 0o600))
	for _, args := range [][]string{
		{"vol", "wipe", "pool/disk", "--yes"},
		{"vol", "resize", "pool/disk", "32M", "--shrink", "--yes"},
		{"vol", "resize", "pool/disk", "96M"},
		{"vol", "upload", "pool/disk", source, "--yes"},
		{"vol", "delete", "pool/disk", "--yes"},
		{"vol", "delete", "pool/disk", "--wipe", "--yes"},
		{"vol", "move", "pool/disk", "pool/renamed"},
		{"vol", "move", "pool/disk", "other/disk"},
		{"vol", "clone", "pool/disk", "pool/clone"},
		{"vol", "download", "pool/disk", filepath.Join(t.TempDir(), "copy")},
		{"vol", "verify", "pool/disk"},
	} {
		h.runs(4, fmt.Sprintf("in use by loop device %s, mounted at %q", device, dir), args...)
	}
	h.runs(11, "in use by loop device "+device, "pool", "evacuate", "pool", "--to", "other", "--yes")
	h.is("disk", record.Volume{State: record.VolumeReady})
	h.runs(0, "", "pool", "stop", "pool")
	h.runs(4, "in use by loop device "+device, "pool", "delete", "pool", "--with-volumes", "--yes", "pool")
	h.must(os.WriteFile(filepath.Join(dir, "after"), noise(mib), 0o600))
	unmount()
	detach()
	testenv.MountedFrom(t, h.path("disk"))
	if entries, err := os.ReadDir(other); err != nil || len(entries) > 0 {
		t.Errorf("in the other pool is %v, %v", entries, err)
	}
}

// A volume that is attached while a move copies it is not taken away.
func TestVolumeAttachedDuringAMoveStays(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.otherPool("tmpfs")
	h.random("disk", 8*mib)
	want := h.hash("disk")
	st := h.began(h.move("disk", "other/", limited(4*mib)))
	h.written(st.Job.ID, 1)
	device, _ := testenv.Attach(t, h.path("disk"))
	h.fails(h.end(st, nil), record.Busy, device)
	if got := h.hash("disk"); got != want {
		t.Error("the volume is not what it was")
	}
}
