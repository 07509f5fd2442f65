package diskio

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// digest is the hash of the whole content.
func digest(t testing.TB, f *os.File) [32]byte { return digestOf(t, f, sizeOf(t, f)) }

// digestOf is the hash of the first n bytes.
func digestOf(t testing.TB, f *os.File, n int64) [32]byte {
	t.Helper()
	h := sha256.New()
	_, err := io.Copy(h, io.NewSectionReader(f, 0, n))
	must(t, err)
	return [32]byte(h.Sum(nil))
}

// sources are the files that a copy must get right.
var sources = []struct {
	name string
	make func(t *testing.T, f *os.File)
}{
	{"empty", func(*testing.T, *os.File) {}},
	{"one byte", func(t *testing.T, f *os.File) { writeRandom(t, f, 0, 1) }},
	{"data, unaligned size", func(t *testing.T, f *os.File) { writeRandom(t, f, 0, 9*mib+777) }},
	{"only a hole", func(t *testing.T, f *os.File) { must(t, f.Truncate(64*mib+5)) }},
	{"holes between dirty data", func(t *testing.T, f *os.File) {
		for _, off := range []int64{0, 3 * mib, 11*mib + 4096, 30 * mib} {
			writeRandom(t, f, off, 2*mib+13)
		}
		must(t, f.Truncate(39*mib+1))
	}},
	{"hole first, flushed", func(t *testing.T, f *os.File) {
		writeRandom(t, f, 5*mib, mib)
		must(t, f.Sync())
	}},
	{"preallocated", func(t *testing.T, f *os.File) {
		must(t, unix.Fallocate(int(f.Fd()), 0, 0, 24*mib))
		writeRandom(t, f, 7*mib, 3*mib)
	}},
	{"preallocated beyond its end", func(t *testing.T, f *os.File) {
		writeRandom(t, f, 0, mib+1)
		must(t, unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, 24*mib))
	}},
	{"punched", func(t *testing.T, f *os.File) {
		writeRandom(t, f, 0, 16*mib)
		must(t, unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 5*mib, 3*mib))
	}},
}

func TestCopyIsIdentical(t *testing.T) {
	onEachFS(t, func(t *testing.T, dir string) {
		for _, s := range sources {
			for _, reflink := range []Reflink{ReflinkAuto, ReflinkNever} {
				t.Run(s.name+" "+string(reflink), func(t *testing.T) {
					src, dst := create(t, t.TempDir(), "src"), create(t, dir, "dst")
					if reflink == ReflinkAuto {
						src = create(t, dir, "src")
					}
					t.Cleanup(func() { os.Remove(src.Name()); os.Remove(dst.Name()) })
					s.make(t, src)
					checkCopy(t, CopySpec{Dst: file{dst}, Src: file{src}, Reflink: reflink})
				})
			}
		}
	})
}

// checkCopy copies and compares content, size and space.
func checkCopy(t *testing.T, spec CopySpec) CopyStats {
	t.Helper()
	want := digest(t, FileOf(spec.Src))
	p := NewPacer()
	stats, err := Copy(context.Background(), p, spec)
	must(t, err)
	if got := digest(t, FileOf(spec.Dst)); got != want {
		t.Error("the copy differs from its source")
	}
	if got := digest(t, FileOf(spec.Src)); got != want {
		t.Error("the source has changed")
	}
	c := p.Counts()
	if c.Durable != c.Total || c.Done != c.Total || c.Work != c.WorkAll || c.Total != sizeOf(t, FileOf(spec.Dst)) {
		t.Errorf("counts are not complete at the end: %+v", c)
	}
	if stats.Data+stats.Holes != sizeOf(t, FileOf(spec.Src)) {
		t.Errorf("stats do not add up: %+v", stats)
	}
	return stats
}

func TestCopyOfHolesAllocatesNothing(t *testing.T) {
	dir := t.TempDir()
	src, dst := create(t, dir, "src"), create(t, dir, "dst")
	writeRandom(t, src, 64*mib, mib)
	must(t, src.Truncate(100<<30))
	p := NewPacer()
	_, err := Copy(context.Background(), p, CopySpec{Dst: file{dst}, Src: file{src}})
	must(t, err)
	if got, want := occupied(t, dst), occupied(t, src); got > want {
		t.Errorf("copy occupies %d bytes, its source %d", got, want)
	}
	if c := p.Counts(); c.Holes != 100<<30-mib || c.Read != mib || c.Written != mib {
		t.Errorf("counts: %+v", c)
	}
}

func TestCopyIntoLargerAndUsedTarget(t *testing.T) {
	onEachFS(t, func(t *testing.T, dir string) {
		src, dst := create(t, dir, "src"), create(t, dir, "dst")
		writeRandom(t, src, 2*mib, 3*mib+5)
		writeRandom(t, dst, 0, 20*mib)
		p := NewPacer()
		_, err := Copy(context.Background(), p, CopySpec{Dst: file{dst}, Src: file{src}, Size: 18*mib + 9})
		must(t, err)
		want, err := os.ReadFile(src.Name())
		must(t, err)
		got, err := os.ReadFile(dst.Name())
		must(t, err)
		if !bytes.Equal(got, append(want, make([]byte, 18*mib+9-len(want))...)) {
			t.Error("old content of the target shows through")
		}
	})
}

func TestCopyIntoAllocatedTargetKeepsItsBlocks(t *testing.T) {
	onEachFS(t, func(t *testing.T, dir string) {
		src, dst := create(t, dir, "src"), create(t, dir, "dst")
		writeRandom(t, src, 3*mib, mib)
		must(t, src.Truncate(16*mib))
		p := NewPacer()
		_, err := Allocate(context.Background(), p, file{dst}, AllocateSpec{Capacity: 16 * mib, Allocation: 16 * mib})
		must(t, err)
		p.StartPhase(1)
		stats, err := Copy(context.Background(), p, CopySpec{Dst: file{dst}, Src: file{src}, Clean: true})
		must(t, err)
		if stats.Method != MethodCopy || occupied(t, dst) < 16*mib {
			t.Errorf("%d bytes left of the allocation: %+v", occupied(t, dst), stats)
		}
		if digest(t, dst) != digest(t, src) {
			t.Error("the copy differs from its source")
		}
	})
}

func TestCopyBetweenDevices(t *testing.T) {
	dir := t.TempDir()
	src := create(t, dir, "src")
	writeRandom(t, src, 2*mib, 3*mib+1000)
	image := create(t, dir, "image")
	writeRandom(t, image, 0, 8*mib)
	device, err := os.OpenFile(loopDevice(t, image.Name()), os.O_RDWR, 0)
	must(t, err)
	defer device.Close()
	_, err = Copy(context.Background(), NewPacer(), CopySpec{Dst: file{device}, Src: file{src}, Size: 8 * mib})
	must(t, err)
	if digestOf(t, device, sizeOf(t, src)) != digest(t, src) {
		t.Error("the device differs from the file")
	}
	rest := make([]byte, 8*mib-sizeOf(t, src))
	_, err = device.ReadAt(rest, sizeOf(t, src))
	must(t, err)
	if !bytes.Equal(rest, make([]byte, len(rest))) {
		t.Error("old content shows behind the source's end")
	}
	checkCopy(t, CopySpec{Dst: file{create(t, dir, "back")}, Src: file{device}})
	_, err = Copy(context.Background(), NewPacer(), CopySpec{Dst: file{device}, Src: file{src}, Size: 9 * mib})
	checkIOError(t, err, "write", unix.ENOSPC)
}

func TestCopyWhileOthersRead(t *testing.T) {
	dir := t.TempDir()
	src := create(t, dir, "src")
	writeRandom(t, src, 0, 32*mib)
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			if _, err := io.Copy(io.Discard, io.NewSectionReader(src, 0, 32*mib)); err != nil {
				t.Error(err)
			}
		})
	}
	checkCopy(t, CopySpec{Dst: file{create(t, dir, "dst")}, Src: file{src}})
	readers.Wait()
}

// What a source has reserved and not written is reserved in its copy too, if
// that is asked for, however the copy is made.
func TestCopyWithAllocation(t *testing.T) {
	onEachFS(t, func(t *testing.T, dir string) {
		src := create(t, dir, "src")
		must(t, unix.Fallocate(int(src.Fd()), 0, 0, 24*mib))
		writeRandom(t, src, 3*mib, 2*mib+11)
		for _, reflink := range []Reflink{ReflinkAuto, ReflinkNever} {
			for _, want := range []int64{24 * mib, 8 * mib, 1 << 50} {
				dst := create(t, dir, fmt.Sprint("dst ", reflink, want))
				stats := checkCopy(t, CopySpec{Dst: file{dst}, Src: file{src}, Reflink: reflink, Allocation: want})
				got := occupied(t, dst)
				if want = min(want, 24*mib); !stats.Kept || stats.Allocated != got || got < want {
					t.Errorf("%s, %d bytes: %+v, occupies %d", reflink, want, stats, got)
				}
				must(t, os.Remove(dst.Name()))
			}
		}
	})
}

func TestCopyWithAllocationWritesZerosWithoutFallocate(t *testing.T) {
	dir := mountLoop(t, "ext2", 128<<20)
	src, dst := create(t, t.TempDir(), "src"), create(t, dir, "dst")
	writeRandom(t, src, 3*mib, 2*mib+11)
	must(t, src.Truncate(24*mib))
	stats := checkCopy(t, CopySpec{Dst: file{dst}, Src: file{src}, Allocation: 20 * mib})
	if got := occupied(t, dst); !stats.Kept || got < 20*mib || got > 21*mib {
		t.Errorf("occupies %d: %+v", got, stats)
	}
}

func TestCopyWithAllocationRefusesBeforeItStarts(t *testing.T) {
	src, dst := create(t, t.TempDir(), "src"), create(t, mountTmpfs(t, 32<<20), "dst")
	must(t, src.Truncate(64*mib))
	p := NewPacer()
	_, err := Copy(context.Background(), p, CopySpec{Dst: file{dst}, Src: file{src}, Allocation: 64 * mib})
	checkIOError(t, err, "allocate", unix.ENOSPC)
	if c := p.Counts(); c.Done != 0 || occupied(t, dst) != 0 {
		t.Errorf("something was written: %+v", c)
	}
}

func TestSparseCopyLeavesZerosOut(t *testing.T) {
	onEachFS(t, func(t *testing.T, dir string) {
		src := create(t, dir, "src")
		must(t, src.Truncate(0))
		_, err := src.WriteAt(make([]byte, 20*mib+5), 0)
		must(t, err)
		for _, off := range []int64{100, 3*mib - 1, 7*mib + zeroBlock, 20 * mib} {
			_, err := src.WriteAt([]byte{1}, off)
			must(t, err)
		}
		p := NewPacer()
		dst := create(t, dir, "dst")
		stats, err := Copy(context.Background(), p, CopySpec{Dst: file{dst}, Src: file{src}, Sparse: true})
		must(t, err)
		if digest(t, dst) != digest(t, src) {
			t.Error("the copy differs from its source")
		}
		if stats.Method != MethodCopy || stats.Data != 3*zeroBlock+5 || stats.Holes != 20*mib-3*zeroBlock {
			t.Errorf("stats: %+v", stats)
		}
		if got := occupied(t, dst); got > 4*zeroBlock+mib { // some allocate ahead
			t.Errorf("occupies %d bytes", got)
		}
		if c := p.Counts(); c.Durable != c.Total || c.Written != stats.Data || c.Holes != stats.Holes || c.Read != 20*mib+5 {
			t.Errorf("counts: %+v", c)
		}
	})
}

// Old content of a used target is not left where the source has zeros.
func TestSparseCopyIntoUsedTarget(t *testing.T) {
	for _, limit := range []int64{0, 200 * mib} {
		dir := t.TempDir()
		src, dst := create(t, dir, "src"), create(t, dir, "dst")
		_, err := src.WriteAt(make([]byte, 4*mib+77), 0)
		must(t, err)
		writeRandom(t, src, mib+5, 1000)
		writeRandom(t, dst, 0, 5*mib)
		p := NewPacer()
		p.SetLimit(limit)
		_, err = Copy(context.Background(), p, CopySpec{Dst: file{dst}, Src: file{src}, Sparse: true})
		must(t, err)
		if digest(t, dst) != digest(t, src) {
			t.Error("the copy differs from its source")
		}
	}
	image := create(t, t.TempDir(), "image")
	writeRandom(t, image, 0, 5*mib)
	device, err := os.OpenFile(loopDevice(t, image.Name()), os.O_RDWR, 0)
	must(t, err)
	defer device.Close()
	src := create(t, t.TempDir(), "src")
	_, err = src.WriteAt(make([]byte, 4*mib+77), 0)
	must(t, err)
	_, err = Copy(context.Background(), NewPacer(), CopySpec{Dst: file{device}, Src: file{src}, Sparse: true, Size: 5 * mib})
	must(t, err)
	got, err := io.ReadAll(io.NewSectionReader(device, 0, 5*mib))
	must(t, err)
	if !bytes.Equal(got, make([]byte, 5*mib)) {
		t.Error("old content of the device shows through")
	}
}

func TestCopyRefusesWhatCannotBeHadTogether(t *testing.T) {
	dir := t.TempDir()
	src, dst, used := create(t, dir, "src"), create(t, dir, "dst"), create(t, dir, "used")
	writeRandom(t, used, 0, 10)
	writeRandom(t, src, 0, 10)
	for _, spec := range []CopySpec{
		{Dst: file{used}, Src: file{src}, Allocation: 1},
		{Dst: file{dst}, Src: file{src}, Allocation: -1},
		{Dst: file{dst}, Src: file{src}, Allocation: 1, Sparse: true},
		{Dst: file{dst}, Src: file{src}, Sparse: true, Reflink: ReflinkAlways},
		{Dst: file{dst}, Src: file{src}, Size: 9},
	} {
		if _, err := Copy(context.Background(), NewPacer(), spec); err == nil {
			t.Errorf("%+v was accepted", spec)
		}
	}
	if occupied(t, dst) != 0 || sizeOf(t, used) != 10 {
		t.Error("something was written")
	}
}
