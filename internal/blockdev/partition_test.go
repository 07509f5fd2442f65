package blockdev_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"storaged/internal/blockdev"
	"storaged/internal/testenv"
)

// The kernel has the partitions that it is told of, whether the disk has a table or not.
func TestPartsOfADisk(t *testing.T) {
	testenv.Loop(t)
	file := filepath.Join(t.TempDir(), "disk")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Truncate(file, 16<<20)); err != nil {
		t.Fatal(err)
	}
	path, _ := testenv.Attach(t, file)
	disk, err := blockdev.OpenNode(path)
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	parts := func() map[int]blockdev.Part {
		d, ok := blockdev.System.Device(disk.Number)
		if !ok {
			t.Fatal("sysfs does not have it")
		}
		return d.Parts()
	}
	if err := errors.Join(blockdev.AddPart(disk.File, 2, 1<<20, 4<<20), blockdev.AddPart(disk.File, 7, 8<<20, 4096)); err != nil {
		t.Fatal(err)
	}
	defer blockdev.RemovePart(disk.File, 7)
	two := parts()[2]
	if len(parts()) != 2 || two.Start != 1<<20 || two.Size != 4<<20 || two.Node() != path+"p2" {
		t.Errorf("%+v", parts())
	}
	open, err := blockdev.OpenNode(two.Node())
	if err != nil || open.Number != two.Number() {
		t.Fatalf("%+v, %v", open, err)
	}
	if err := blockdev.ResizePart(disk.File, 2, 1<<20, 6<<20); err != nil || parts()[2].Size != 6<<20 {
		t.Errorf("%+v, %v", parts(), err)
	}
	if err := blockdev.RemovePart(disk.File, 2); !errors.Is(err, unix.EBUSY) {
		t.Errorf("one that is open is taken away: %v", err)
	}
	if err := errors.Join(open.Close(), blockdev.RemovePart(disk.File, 2)); err != nil || len(parts()) != 1 {
		t.Errorf("%+v, %v", parts(), err)
	}
	if err := blockdev.AddPart(disk.File, 3, 8<<20, 8192); !errors.Is(err, unix.EBUSY) {
		t.Errorf("one upon another: %v", err)
	}
	if n, err := blockdev.SectorSize(disk.File); n != 512 || err != nil {
		t.Errorf("sectors of %d, %v", n, err)
	}
}
