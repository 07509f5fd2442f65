package diskio

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// errCrash ends a transfer as the death of its process would, as far as the
// next one can tell.
var errCrash = errors.New("the helper was killed")

// crashing is a transfer that ends at its first checkpoint at or behind limit.
type crashing struct {
	ctx  context.Context
	p    *Pacer
	keep Checkpoints
	kept atomic.Int64 // the last checkpoint
}

// crawl is the limit of a transfer that is to end by a checkpoint: slow, so that
// one comes before its end on the slowest disk, and yet fast enough for a worker
// that was overtaken by the others to end its chunk, before which none comes.
const crawl = 128 << 10

// crashAt makes one that crawls when it must have come to limit.
func crashAt(t *testing.T, limit int64) *crashing {
	ctx, crash := context.WithCancelCause(context.Background())
	c := &crashing{ctx: ctx, p: NewPacer()}
	c.p.SetLimit(64 * mib)
	c.keep = Checkpoints{Every: time.Nanosecond, Save: func(done int64) {
		c.kept.Store(done)
		if done >= limit {
			crash(errCrash)
		}
	}}
	var group sync.WaitGroup
	group.Go(func() {
		for look := time.NewTicker(time.Millisecond); ctx.Err() == nil; <-look.C {
			if c.p.Counts().Done >= limit+workers*chunkBytes {
				c.p.SetLimit(crawl)
			}
		}
	})
	t.Cleanup(func() {
		crash(errCrash)
		group.Wait()
	})
	return c
}

func TestCopyGoesOnWhereAnotherWasKilled(t *testing.T) {
	onEachFS(t, func(t *testing.T, dir string) {
		src, dst := create(t, dir, "src"), create(t, dir, "dst")
		for off := int64(0); off < 24*mib; off += 4 * mib { // data and holes by turns
			writeRandom(t, src, off+777, 2*mib)
		}
		must(t, src.Truncate(30*mib+5))
		c := crashAt(t, 8*mib)
		_, err := Copy(c.ctx, c.p, CopySpec{Dst: dst, Src: src, Reflink: ReflinkNever, Clean: true, Checkpoints: c.keep})
		if !errors.Is(err, errCrash) {
			t.Fatalf("not interrupted: %v", err)
		}
		from := c.kept.Load()
		if got, want := digestOf(t, dst, from), digestOf(t, src, from); got != want {
			t.Fatalf("what lies before the checkpoint at %d differs", from)
		}
		p := NewPacer()
		_, err = Copy(context.Background(), p, CopySpec{Dst: dst, Src: src, Clean: true, Checkpoints: Checkpoints{From: from}})
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
	_, err := Copy(context.Background(), NewPacer(), CopySpec{Dst: dst, Src: src, Reflink: ReflinkNever, Checkpoints: keep})
	must(t, err)
	if wrong != 0 {
		t.Errorf("the checkpoint at %d came too early", wrong)
	}
}

func TestWipeGoesOnWhereAnotherWasKilled(t *testing.T) {
	const size = 16*mib + 100
	for _, c := range []struct {
		algorithm string
		verify    bool
		limit     int64 // of the checkpoint at which it is killed, of all rounds
		again     int64 // at which the next one must not begin later
	}{
		{AlgorithmZero, true, mib, 6 * size},
		{AlgorithmRandom, false, mib, 6 * size},
		{AlgorithmRandom, true, mib, 0}, // nobody knows what to compare with
		{AlgorithmDoD, true, 2*size + mib, 2 * size},
		{AlgorithmBSI, false, 4*size + mib, 9 * size},
	} {
		t.Run(c.algorithm, func(t *testing.T) {
			f := create(t, t.TempDir(), "f")
			writeCanaries(t, f, size)
			spec := WipeSpec{Algorithm: c.algorithm, Verify: c.verify, Order: WipeOrder(c.algorithm)}
			first := crashAt(t, c.limit)
			spec.Checkpoints = first.keep
			if _, err := Wipe(first.ctx, first.p, f, spec); !errors.Is(err, errCrash) {
				t.Fatalf("not interrupted: %v", err)
			}
			kept := first.kept.Load()
			spec.Checkpoints = Checkpoints{From: kept}
			p := NewPacer()
			did, err := Wipe(context.Background(), p, f, spec)
			must(t, err)
			if n := canaries(t, f.Name()); n > 0 {
				t.Errorf("%d canaries are left", n)
			}
			if did.From != min(kept, c.again) || did.Verified != (c.verify || algorithms[c.algorithm].verify) {
				t.Errorf("interrupted at %d: %+v", kept, did)
			}
			passes := int64(len(algorithms[c.algorithm].passes))
			if n := p.Counts(); n.Written > passes*size-did.From+pageSize || n.Durable != n.Total || n.Work != n.WorkAll {
				t.Errorf("began at %d, and yet: %+v", did.From, n)
			}
		})
	}
}

func TestWipeRefusesAnOrderThatIsNone(t *testing.T) {
	f := create(t, t.TempDir(), "f")
	must(t, f.Truncate(mib))
	good := WipeOrder(AlgorithmGutmann)
	swapped := slices.Clone(good)
	swapped[0], swapped[1] = 1, 0
	for _, order := range [][]int{{}, {0}, good[:34], swapped, slices.Repeat([]int{0}, 35), slices.Repeat([]int{-1}, 35)} {
		if _, err := Wipe(context.Background(), NewPacer(), f, WipeSpec{Algorithm: AlgorithmGutmann, Order: order}); err == nil {
			t.Errorf("%v passed", order)
		}
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
			_, err := Sum(ctx, NewPacer(), f, SumSpec{CRC32C: crc, Every: time.Nanosecond, Save: func(done int64, state []byte) {
				at.From, at.State = done, state
				if done >= 12*mib { // in the hole, or behind it
					crash(errCrash)
				}
			}})
			if !errors.Is(err, errCrash) {
				t.Fatalf("not interrupted: %v", err)
			}
			p := NewPacer()
			did, err := Sum(context.Background(), p, f, at)
			must(t, err)
			if !bytes.Equal(did.Sum, sumOf(t, f, crc)) {
				t.Error("another checksum")
			}
			if c := p.Counts(); c.Read > 4*mib+4096 || c.Durable != c.Total || c.Work != c.WorkAll {
				t.Errorf("%+v", c)
			}
			for _, bad := range []SumSpec{{From: 1, State: []byte("garbage")}, {From: -1}, {From: 1 << 40, State: at.State}} {
				bad.CRC32C = crc
				if _, err := Sum(context.Background(), NewPacer(), f, bad); err == nil {
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
	did, err := Allocate(context.Background(), p, f, spec)
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
	w := newFlusher(p, f)
	defer w.stop()
	w.fail(window{}, unix.EIO)
	if err := syncWith(p, f, w)(context.Background()); !errors.Is(err, unix.EIO) {
		t.Errorf("durable in spite of it: %v", err)
	}
}
