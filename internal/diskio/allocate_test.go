package diskio

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"storaged/internal/testenv"
	"testing"

	"golang.org/x/sys/unix"
)

func TestAllocateKeepsPromise(t *testing.T) {
	onEachFS(t, func(t *testing.T, dir string) {
		f := create(t, dir, "f")
		writeRandom(t, f, 0, mib)
		before := digestOf(t, f, mib)
		p := NewPacer()
		stats, err := Allocate(context.Background(), p, file{f}, AllocateSpec{Capacity: 70*mib + 1, Allocation: 1 << 50})
		must(t, err)
		if !stats.Kept || stats.Method != MethodFallocate || occupied(t, f) < 70*mib+1 {
			t.Errorf("promise not kept: %+v", stats)
		}
		if sizeOf(t, f) != 70*mib+1 {
			t.Errorf("allocated past the capacity: size is %d", sizeOf(t, f))
		}
		if digestOf(t, f, mib) != before {
			t.Error("content has changed")
		}
		if c := p.Counts(); c.Durable != c.Total || c.Done != c.Total || c.Work != c.WorkAll || c.Work == 0 {
			t.Errorf("counts are not complete: %+v", c)
		}
	})
}

func TestAllocatePart(t *testing.T) {
	f := create(t, t.TempDir(), "f")
	_, err := Allocate(context.Background(), NewPacer(), file{f}, AllocateSpec{Capacity: 100 * mib, Allocation: 8 * mib})
	must(t, err)
	if got := occupied(t, f); got < 8*mib || got > 9*mib {
		t.Errorf("occupies %d bytes", got)
	}
	if sizeOf(t, f) != 100*mib {
		t.Errorf("size is %d", sizeOf(t, f))
	}
}

func TestAllocateWritesZerosWithoutFallocate(t *testing.T) {
	dir := mountLoop(t, "ext2", 128<<20)
	f := create(t, dir, "f")
	writeRandom(t, f, 8*mib, 2*mib)
	before := digestOf(t, f, 10*mib)
	p := NewPacer()
	stats, err := Allocate(context.Background(), p, file{f}, AllocateSpec{Capacity: 40*mib + 3, Allocation: 40*mib + 3})
	must(t, err)
	if !stats.Kept || stats.Method != MethodWrite {
		t.Errorf("promise not kept: %+v", stats)
	}
	if digestOf(t, f, 10*mib) != before {
		t.Error("content has changed")
	}
	if c := p.Counts(); c.Durable != c.Total || c.Written != 38*mib+3 || c.Work != c.WorkAll {
		t.Errorf("counts: %+v", c)
	}
}

func TestAllocateRefusesBeforeItStarts(t *testing.T) {
	f := create(t, mountTmpfs(t, 32<<20), "f")
	_, err := Allocate(context.Background(), NewPacer(), file{f}, AllocateSpec{Capacity: 64 * mib, Allocation: 64 * mib})
	if !errors.Is(err, unix.ENOSPC) {
		t.Errorf("error is %v, not ENOSPC", err)
	}
	if sizeOf(t, f) != 0 || occupied(t, f) != 0 {
		t.Error("the file was changed")
	}
	writeRandom(t, f, 0, mib)
	if _, err := Allocate(context.Background(), NewPacer(), file{f}, AllocateSpec{Capacity: 1000}); err == nil {
		t.Error("a capacity below the size was accepted")
	}
}

func TestDeviceHasItsSizeAndItsStorage(t *testing.T) {
	file := filepath.Join(t.TempDir(), "disk")
	must(t, os.WriteFile(file, nil, 0o600))
	must(t, os.Truncate(file, mib))
	device, _ := testenv.Attach(t, file)
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	if got, err := Allocate(t.Context(), NewPacer(), FileContent(f), AllocateSpec{Capacity: mib, Allocation: mib}); err != nil || !got.Kept || got.Allocated != mib {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := Allocate(t.Context(), NewPacer(), FileContent(f), AllocateSpec{Capacity: mib, Clean: true}); err != nil || got.Method != MethodNone {
		t.Errorf("one that is clean: %+v, %v", got, err)
	}
	if _, err := Allocate(t.Context(), NewPacer(), FileContent(f), AllocateSpec{Capacity: mib + 1}); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("one that is too small: %v", err)
	}
}

// A device has what others left there: what is made of it is cleared, by the storage
// where it can (a loop device on ramfs cannot), and a copy to it has nothing of that either.
func TestWhatADeviceHadIsGone(t *testing.T) {
	testenv.Root(t)
	for fs, method := range map[string]string{"tmpfs": MethodZero, "ramfs": MethodWrite} {
		t.Run(fs, func(t *testing.T) {
			back := create(t, mountAt(t, t.TempDir(), "-t", fs, fs), "back")
			writeRandom(t, back, 0, 32*mib)
			must(t, back.Sync())
			device, err := os.OpenFile(loopDevice(t, back.Name()), os.O_RDWR, 0)
			must(t, err)
			defer device.Close()
			p := NewPacer()
			stats, err := Allocate(context.Background(), p, file{device}, AllocateSpec{Capacity: 30 * mib})
			must(t, err)
			if !stats.Kept || stats.Method != method {
				t.Errorf("%+v", stats)
			}
			if c := p.Counts(); c.Durable != 32*mib || c.Total != 32*mib || c.Work != c.WorkAll {
				t.Errorf("counts: %+v", c)
			}
			empty := create(t, t.TempDir(), "empty")
			must(t, empty.Truncate(32*mib))
			if digest(t, device) != digest(t, empty) {
				t.Error("something is left")
			}
			must(t, empty.Truncate(8*mib))
			writeRandom(t, device, 0, 32*mib)
			_, err = Copy(context.Background(), NewPacer(), CopySpec{Dst: file{device}, Src: file{empty}, Allocation: 8 * mib, Reserved: true})
			must(t, err)
			must(t, empty.Truncate(32*mib))
			if digest(t, device) != digest(t, empty) {
				t.Error("something is left beside the copy")
			}
		})
	}
}
