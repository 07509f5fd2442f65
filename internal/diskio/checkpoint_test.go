package diskio

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"storaged/internal/diskio/diskiotest"
)

func TestCopyGoesOnWhereAnotherWasKilled(t *testing.T) {
	onEachFS(t, func(t *testing.T, dir string) {
		src, dst := create(t, dir, "src"), create(t, dir, "dst")
		for off := int64(0); off < 24*mib; off += 4 * mib { // data and holes by turns
			writeRandom(t, src, off+777, 2*mib)
		}
		must(t, src.Truncate(30*mib+5))
		p := NewPacer()
		c := diskiotest.CrashAt(t, 8*mib, p, func() int64 { return p.Counts().Done })
		_, err := Copy(c.Context, p, CopySpec{Dst: file{dst}, Src: file{src}, Reflink: ReflinkNever, Clean: true, Checkpoints: Checkpoints{Every: time.Nanosecond, Save: c.Save}})
		if !errors.Is(err, diskiotest.ErrCrash) {
			t.Fatalf("not interrupted: %v", err)
		}
		from := c.Kept()
		if got, want := digestOf(t, dst, from), digestOf(t, src, from); got != want {
			t.Fatalf("what lies before the checkpoint at %d differs", from)
		}
		p = NewPacer()
		_, err = Copy(context.Background(), p, CopySpec{Dst: file{dst}, Src: file{src}, Clean: true, Checkpoints: Checkpoints{From: from}})
		must(t, err)
		if digest(t, dst) != digest(t, src) {
			t.Error("the copy differs from its source")
		}
		n := p.Counts()
		if data := n.Total - n.Holes; n.Written > data-2*mib || n.Durable != n.Total || n.Work != n.WorkAll {
			t.Errorf("began at %d, and yet: %+v", from, n)
		}
	})
}

// A checkpoint counts what is below it. Nothing may be above it that is not
// there, whatever order the workers end in.
func TestCheckpointIsNeverAheadOfWhatWasMoved(t *testing.T) {
	src, dst := create(t, t.TempDir(), "src"), create(t, t.TempDir(), "dst")
	writeRandom(t, src, 0, 48*mib)
	wrong := int64(0)
	keep := Checkpoints{Every: time.Nanosecond, Save: func(done int64) {
		if digestOf(t, dst, done) != digestOf(t, src, done) {
			wrong = done
		}
	}}
	_, err := Copy(context.Background(), NewPacer(), CopySpec{Dst: file{dst}, Src: file{src}, Reflink: ReflinkNever, Checkpoints: keep})
	must(t, err)
	if wrong != 0 {
		t.Errorf("the checkpoint at %d came too early", wrong)
	}
}

func TestSumGoesOnWhereAnotherWasKilled(t *testing.T) {
	f := create(t, t.TempDir(), "f")
	writeRandom(t, f, 0, 9*mib+1)
	writeRandom(t, f, 20*mib, 4*mib)
	for name, crc := range map[string]bool{"SHA-256": false, "CRC-32C": true} {
		t.Run(name, func(t *testing.T) {
			at := SumSpec{CRC32C: crc}
			ctx, crash := context.WithCancelCause(context.Background())
			_, err := Sum(ctx, NewPacer(), file{f}, SumSpec{CRC32C: crc, Every: time.Nanosecond, Save: func(done int64, state []byte) {
				at.From, at.State = done, state
				if done >= 12*mib { // in the hole, or behind it
					crash(diskiotest.ErrCrash)
				}
			}})
			if !errors.Is(err, diskiotest.ErrCrash) {
				t.Fatalf("not interrupted: %v", err)
			}
			p := NewPacer()
			did, err := Sum(context.Background(), p, file{f}, at)
			must(t, err)
			if !bytes.Equal(did.Sum, sumOf(t, f, crc)) {
				t.Error("another checksum")
			}
			if c := p.Counts(); c.Read > 4*mib+4096 || c.Durable != c.Total || c.Work != c.WorkAll {
				t.Errorf("%+v", c)
			}
			for _, bad := range []SumSpec{{From: 1, State: []byte("garbage")}, {From: -1}, {From: 1 << 40, State: at.State}} {
				bad.CRC32C = crc
				if _, err := Sum(context.Background(), NewPacer(), file{f}, bad); err == nil {
					t.Errorf("%+v passed", bad)
				}
			}
		})
	}
}

func TestAllocationMadeAgainWritesNothingTwice(t *testing.T) {
	f := create(t, t.TempDir(), "f")
	spec := AllocateSpec{Capacity: 64 * mib, Allocation: 64 * mib}
	told := int64(0)
	spec.Keep = Checkpoints{Every: time.Nanosecond, Save: func(done int64) { told = done }}
	must(t, unix.Fallocate(int(f.Fd()), 0, 0, 40*mib)) // as far as the first one came
	p := NewPacer()
	did, err := Allocate(context.Background(), p, file{f}, spec)
	must(t, err)
	if c := p.Counts(); !did.Kept || told != 64*mib || c.Written != 0 || c.Durable != c.Total {
		t.Errorf("told %d, %+v, %+v", told, did, c)
	}
}

// An error of the device that the flusher was told must keep a checkpoint from
// being made, for fdatasync says yes after it.
func TestNoCheckpointAfterAWriteBackThatFailed(t *testing.T) {
	image := filepath.Join(t.TempDir(), "image")
	sparse(t, image, mib)
	f, err := os.OpenFile(image, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	p := NewPacer()
	w := newFlusher(p, file{f})
	defer w.stop()
	w.fail(window{}, unix.EIO)
	if err := syncWith(p, w)(context.Background()); !errors.Is(err, unix.EIO) {
		t.Errorf("durable in spite of it: %v", err)
	}
}
