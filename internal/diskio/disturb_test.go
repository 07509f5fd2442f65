package diskio

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// checkIOError tells what an error must say, and that it has no file name.
func checkIOError(t *testing.T, err error, op string, is error) *IOError {
	t.Helper()
	var e *IOError
	if !errors.As(err, &e) || !errors.Is(err, is) || e.Op != op {
		t.Fatalf("error is %v, want %s and %v", err, op, is)
	}
	if text := err.Error(); strings.Contains(text, os.TempDir()) || strings.Contains(text, "/dev/") {
		t.Errorf("error names a file: %v", err)
	}
	return e
}

func TestCopyRefusesSmallTarget(t *testing.T) {
	dir := t.TempDir()
	src, dst := create(t, dir, "src"), create(t, dir, "dst")
	writeRandom(t, src, 0, 1000)
	if _, err := Copy(context.Background(), NewPacer(), CopySpec{Dst: file{dst}, Src: file{src}, Size: 999}); err == nil {
		t.Error("a target smaller than its source was accepted")
	}
}

func TestCopyFullDisk(t *testing.T) {
	src := create(t, t.TempDir(), "src")
	writeRandom(t, src, 0, 64*mib)
	dst := create(t, mountTmpfs(t, 32*mib), "dst")
	// Of a sparse copy nobody knows before how much it needs.
	p := NewPacer()
	_, err := Copy(context.Background(), p, CopySpec{Dst: file{dst}, Src: file{src}, Sparse: true})
	// Pieces are written beside each other: any that is left may be the one that
	// finds no room.
	if e := checkIOError(t, err, "write", unix.ENOSPC); e.Offset < 0 || e.Offset >= 64*mib {
		t.Errorf("offset is %d in a source of 64 MiB", e.Offset)
	}
	if n := p.Counts().Written; n < 24*mib || n > 32*mib {
		t.Errorf("%d bytes were written to a disk of 32 MiB", n)
	}
}

// A loop device whose file ends early cannot be read there.
func TestCopyReadError(t *testing.T) {
	image := filepath.Join(t.TempDir(), "image")
	sparse(t, image, 64*mib)
	src, err := os.Open(loopDevice(t, image))
	must(t, err)
	defer src.Close()
	must(t, os.Truncate(image, 40*mib))
	p := NewPacer()
	_, err = Copy(context.Background(), p, CopySpec{Dst: file{create(t, t.TempDir(), "dst")}, Src: file{src}})
	if e := checkIOError(t, err, "read", unix.EIO); e.Offset < 40*mib || e.Offset >= 44*mib {
		t.Errorf("offset is %d, the device ends at %d", e.Offset, 40*mib)
	}
	if c := p.Counts(); c.Durable > 44*mib {
		t.Errorf("more is durable than could be read: %+v", c)
	}
}

// A thin device that runs out of space takes the writes and fails the
// write-back; an fsync after that would succeed.
func TestCopyLateWriteError(t *testing.T) {
	image := filepath.Join(mountTmpfs(t, 40*mib), "image")
	sparse(t, image, 256*mib)
	run(t, "mkfs.ext4", "-q", image)
	dst := create(t, mountAt(t, t.TempDir(), loopDevice(t, image)), "dst")
	src := create(t, t.TempDir(), "src")
	writeRandom(t, src, 0, 100*mib)
	p := NewPacer()
	_, err := Copy(context.Background(), p, CopySpec{Dst: file{dst}, Src: file{src}})
	var e *IOError
	if !errors.As(err, &e) || !(errors.Is(err, unix.EIO) || errors.Is(err, unix.ENOSPC)) {
		t.Fatalf("error is %v", err)
	}
	if c := p.Counts(); c.Durable > 40*mib || c.Durable == c.Total {
		t.Errorf("40 MiB of space, but durable: %+v", c)
	}
}

func TestCopySourceCutOff(t *testing.T) {
	src := create(t, t.TempDir(), "src")
	writeRandom(t, src, 0, 16*mib)
	p := NewPacer()
	defer observe(p, func(c Counts) {
		if c.Done > 2*mib {
			must(t, src.Truncate(8*mib))
		}
	})()
	p.SetLimit(10 * mib)
	_, err := Copy(context.Background(), p, CopySpec{Dst: file{create(t, t.TempDir(), "dst")}, Src: file{src}})
	if e := checkIOError(t, err, "read", ErrShrunk); e.Offset != 8*mib {
		t.Errorf("offset is %d", e.Offset)
	}
}

func TestCopySourceCutOffWithinAHole(t *testing.T) {
	src := create(t, t.TempDir(), "src")
	writeRandom(t, src, 0, 4*mib)
	must(t, src.Truncate(64*mib))
	p := NewPacer()
	defer observe(p, func(c Counts) {
		if c.Done > mib {
			must(t, src.Truncate(8*mib))
		}
	})()
	p.SetLimit(4 * mib)
	_, err := Copy(context.Background(), p, CopySpec{Dst: file{create(t, t.TempDir(), "dst")}, Src: file{src}})
	checkIOError(t, err, "read", ErrShrunk)
}

// cancelTime is what a cancel may take: the time between two chunks and the
// wait for one window of write-back, on a busy machine.
const cancelTime = time.Second

func TestCancelInTheMiddle(t *testing.T) {
	cause := errors.New("cause")
	for _, limit := range []int64{0, 64 << 10, 40 * mib} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			src := create(t, t.TempDir(), "src")
			writeRandom(t, src, 0, 256*mib)
			ctx, cancel := context.WithCancelCause(context.Background())
			var canceled time.Time
			p := NewPacer()
			p.SetLimit(limit)
			go func() {
				for p.Counts().Done == 0 {
					runtime.Gosched()
				}
				canceled = time.Now()
				cancel(cause)
			}()
			_, err := Copy(ctx, p, CopySpec{Dst: file{create(t, t.TempDir(), "dst")}, Src: file{src}})
			if !errors.Is(err, cause) {
				t.Fatalf("error is %v", err)
			}
			if d := time.Since(canceled); d > cancelTime {
				t.Errorf("canceled only after %v", d)
			}
			if c := p.Counts(); c.Done >= c.Total || c.Durable > c.Written {
				t.Errorf("counts after a cancel: %+v", c)
			}
			must(t, p.Pause(context.Background())) // nothing is in flight
		})
	}
}

// watchTime is how long a paused transfer is watched.
const watchTime = 300 * time.Millisecond

func TestPauseStopsIO(t *testing.T) {
	src, dst := create(t, t.TempDir(), "src"), create(t, t.TempDir(), "dst")
	writeRandom(t, src, 0, 96*mib)
	started := make(chan struct{})
	begun := started // nil when it is closed
	p := NewPacer()
	defer observe(p, func(c Counts) {
		if c.Done > 0 && begun != nil {
			close(begun)
			begun = nil
		}
	})()
	p.SetLimit(60 * mib)
	done := make(chan error, 1)
	go func() {
		_, err := Copy(context.Background(), p, CopySpec{Dst: file{dst}, Src: file{src}})
		done <- err
	}()
	<-started
	must(t, p.Pause(context.Background()))
	counts, written := p.Counts(), processIO(t, "write_bytes")
	if counts.Done != counts.Durable || counts.Done == counts.Total {
		t.Errorf("paused with bytes not written back: %+v", counts)
	}
	if n := unwritten(t, dst); n != 0 {
		t.Errorf("paused with %d dirty bytes in the target", n)
	}
	<-time.After(watchTime) // nothing is to happen, so there is no event to wait for
	if p.Counts() != counts || processIO(t, "write_bytes") != written {
		t.Error("I/O went on during the pause")
	}
	p.Resume()
	p.SetLimit(0)
	must(t, <-done)
	if digest(t, src) != digest(t, dst) {
		t.Error("the copy differs from its source")
	}
}

// processIO reads a field of /proc/self/io.
func processIO(t *testing.T, field string) (n int64) {
	t.Helper()
	data, err := os.ReadFile("/proc/self/io")
	must(t, err)
	_, rest, _ := strings.Cut(string(data), field+": ")
	_, err = fmt.Sscan(rest, &n)
	must(t, err)
	return n
}

func TestDurableIsWrittenBackAndDirtyIsBounded(t *testing.T) {
	src, dst := create(t, t.TempDir(), "src"), create(t, t.TempDir(), "dst")
	writeRandom(t, src, 0, 400*mib)
	p := NewPacer()
	done := make(chan error, 1)
	go func() {
		_, err := Copy(context.Background(), p, CopySpec{Dst: file{dst}, Src: file{src}})
		done <- err
	}()
	var last Counts
	for running := true; running; {
		select {
		case err := <-done:
			must(t, err)
			running = false
		default:
		}
		before := p.Counts()
		dirty := unwritten(t, dst)
		after := p.Counts()
		const inHand = workers * chunkBytes
		if dirty > maxDirty+inHand {
			t.Errorf("%d bytes are dirty", dirty)
		}
		if before.Durable > after.Done+inHand-dirty {
			t.Errorf("%d bytes count as durable, but of %d %d are not written back", before.Durable, after.Done, dirty)
		}
		if before.Durable < last.Durable || before.Work < last.Work || before.Durable > before.Done {
			t.Errorf("counts go wrong: %+v, then %+v", last, before)
		}
		last = before
	}
	if last.Durable != 400*mib {
		t.Errorf("at the end %+v", last)
	}
}

func TestSlowTransferIsSmooth(t *testing.T) {
	src, dst := create(t, t.TempDir(), "src"), create(t, t.TempDir(), "dst")
	writeRandom(t, src, 0, 300<<10)
	moved := 0
	p := NewPacer()
	stop := observe(p, func(Counts) { moved++ })
	p.SetLimit(100 << 10)
	start := time.Now()
	_, err := Copy(context.Background(), p, CopySpec{Dst: file{dst}, Src: file{src}})
	must(t, err)
	stop()
	d := time.Since(start)
	if d < 2850*time.Millisecond {
		t.Errorf("300 KiB at 100 KiB/s took only %v", d)
	}
	if moved < int(2*d/time.Second) {
		t.Errorf("progress moved %d times in %v", moved, d)
	}
	if c := p.Counts(); c.Read != 300<<10 {
		t.Errorf("read %d bytes for 300 KiB", c.Read)
	}
}

func TestPageCacheStaysAsItWas(t *testing.T) {
	const size = 200 * mib
	src, dst := create(t, t.TempDir(), "src"), create(t, t.TempDir(), "dst")
	writeRandom(t, src, 0, size)
	must(t, src.Sync())
	dropCache(src, 0, 0)
	_, err := io.Copy(io.Discard, io.NewSectionReader(src, 80*mib, 30*mib)) // somebody else's
	must(t, err)
	before := cacheOf(t, src, 0, 0).Cache
	_, err = Copy(context.Background(), NewPacer(), CopySpec{Dst: file{dst}, Src: file{src}})
	must(t, err)
	page := uint64(os.Getpagesize())
	if got := cacheOf(t, src, 80*mib, 30*mib).Cache; got < 30*mib/page {
		t.Errorf("of 30 MiB that were cached %d are left", got*page)
	}
	if got := cacheOf(t, src, 0, 0).Cache; got > before+32*mib/page {
		t.Errorf("the copy left %d bytes of its source in the page cache", (got-before)*page)
	}
	if got := cacheOf(t, dst, 0, 0).Cache; got > 8*mib/page {
		t.Errorf("the copy left %d bytes of its target in the page cache", got*page)
	}
}

// The next extent of a sparse source may lie far ahead of what is being read.
func TestPageCacheStaysEmptyOfASparseSource(t *testing.T) {
	src, dst := create(t, t.TempDir(), "src"), create(t, t.TempDir(), "dst")
	const extents, apart = 60, 100 * mib
	for i := range int64(extents) {
		writeRandom(t, src, i*apart, mib)
	}
	must(t, src.Sync())
	dropCache(src, 0, 0)
	_, err := Copy(context.Background(), NewPacer(), CopySpec{Dst: file{dst}, Src: file{src}})
	must(t, err)
	for _, f := range []*os.File{src, dst} {
		if got := int64(cacheOf(t, f, 0, 0).Cache) * int64(os.Getpagesize()); got > extents*mib/4 {
			t.Errorf("of %d MiB %d bytes of %s are left in the page cache", extents, got, f.Name())
		}
	}
	if got := cacheOf(t, src, 0, 0).Cache; got > 0 { // nothing came into it in the first place
		t.Errorf("%d pages of the source are in the page cache", got)
	}
	for i := range int64(extents * 2 / 3) { // somebody else's
		_, err = io.Copy(io.Discard, io.NewSectionReader(src, i*apart, mib))
		must(t, err)
	}
	before := cacheOf(t, src, 0, 0).Cache
	_, err = Copy(context.Background(), NewPacer(), CopySpec{Dst: file{create(t, t.TempDir(), "dst")}, Src: file{src}})
	must(t, err)
	if got := cacheOf(t, src, 0, 0).Cache; got < before*9/10 {
		t.Errorf("of %d pages that were cached %d are left", before, got)
	}
}
