package diskio

import (
	"context"
	"errors"
	"math/bits"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Methods of giving blocks back.
const (
	MethodPunch   = "punch"   // of a file: holes, fallocate(2)
	MethodDiscard = "discard" // of a device
	MethodNone    = "none"    // there was nothing to do
)

// TrimStats is what a trim did. Sizes are bytes.
type TrimStats struct {
	Method string
	Bytes  int64 // given back: of a file, by how much fewer it occupies
}

// Trim gives back the blocks of what reads as zeros, and those beyond the end of
// a file; what is read from it is the same before, after, and half-way. Files
// get holes, block devices discard such that zeros are read back. Where neither
// can be done it is ErrUnsupported. Nobody else may write meanwhile.
func Trim(ctx context.Context, p *Pacer, f *os.File, keep Checkpoints) (TrimStats, error) {
	t, err := newTrimming(ctx, p, f, keep)
	if err != nil {
		return t.stats, err
	}
	if err = t.work(ctx); err == nil && t.beyond {
		t.punched.Store(true)
		err = ioError("trim", nowhere, f.Truncate(t.size))
	}
	switch {
	case err == nil:
		err = fsync(ctx, p, f)
	case ctx.Err() != nil: // otherwise the error is final and fsync would lie
		_ = syncFile(f) // after it no I/O goes on
	}
	if cannotFallocate(err) {
		err = ioError("trim", nowhere, ErrUnsupported)
	}
	return t.conclude(), err
}

// Preallocated is how much of a file has blocks that nothing was written to:
// somebody has reserved them. What a file system adds to each write because it
// was asked to allocate in large units does not count.
func Preallocated(ctx context.Context, f *os.File) (n int64, err error) {
	fi, err := f.Stat()
	if err != nil || !fi.Mode().IsRegular() {
		return 0, ioError("stat", nowhere, err)
	}
	stray := 2 * extentUnit(f)
	_, err = walkUnwritten(ctx, f, fi.Size(), func(x extent) error {
		if x.len >= stray {
			n += x.len
		}
		return nil
	})
	return n, err
}

type trimming struct {
	p        *Pacer
	f        *os.File
	size     int64
	file     bool // regular, no device
	block    int64
	keep     Checkpoints
	before   int64    // bytes that the file occupied
	reserved []extent // have blocks and no data, in order
	beyond   bool     // there are blocks behind the end
	punched  atomic.Bool
	zeros    atomic.Int64 // of a device, discarded
	stats    TrimStats
}

func newTrimming(ctx context.Context, p *Pacer, f *os.File, keep Checkpoints) (*trimming, error) {
	t := &trimming{p: p, f: f, keep: keep, block: alignment}
	fi, err := f.Stat()
	if err != nil {
		return t, ioError("stat", nowhere, err)
	}
	t.file = fi.Mode().IsRegular()
	if t.size, err = fileSize(f); err != nil {
		return t, err
	}
	if err := flushSource(ctx, p, f); err != nil {
		return t, err
	}
	if t.file {
		t.block = blockOf(f)
		if t.before, err = allocated(f); err != nil {
			return t, err
		}
	}
	return t, t.survey(ctx)
}

// survey finds what has blocks without data, and how much need not be read.
func (t *trimming) survey(ctx context.Context) error {
	data := int64(0)
	err := walkExtents(ctx, t.f, t.size, func(x extent) error {
		if !x.hole {
			data += x.len
		}
		return nil
	})
	if err != nil {
		return err
	}
	t.p.Expect(t.size, t.size-data)
	if !t.file {
		return nil
	}
	err = walkBlocks(ctx, t.f, func(x fiemapExtent) error {
		off, end := int64(x.logical), int64(x.logical+x.length)
		t.beyond = t.beyond || end > roundUp(t.size, t.block)
		if x.flags&fiemapUnwritten != 0 && off < t.size {
			t.reserved = appendExtent(t.reserved, off, end-off)
		}
		return nil
	})
	if errors.Is(err, ErrUnsupported) {
		err = nil
		if t.before > roundUp(data, t.block) { // in any of the holes, or behind the end
			t.reserved, t.beyond = []extent{{len: t.size}}, true
		}
	}
	return err
}

func (t *trimming) work(ctx context.Context) error {
	source := newResidency(t.f, t.size)
	defer source.close()
	s := streams{
		p: t.p, source: source, step: t.chunk,
		keep: &checkpointer{Checkpoints: t.keep, sync: func(ctx context.Context) error { return fsync(ctx, t.p, t.f) }},
	}
	return s.run(ctx, func(visit func(extent) error) error {
		return walkExtents(ctx, t.f, t.size, func(x extent) error {
			if x.hole {
				if err := t.release(ctx, x); err != nil {
					return err
				}
			}
			return visit(x)
		})
	})
}

// release gives back what is reserved within a hole, piece by piece.
func (t *trimming) release(ctx context.Context, hole extent) error {
	for len(t.reserved) > 0 && t.reserved[0].off < hole.off+hole.len {
		x := &t.reserved[0]
		off := max(x.off, hole.off)
		n := min(x.off+x.len, hole.off+hole.len, off+allocatePiece) - off
		if n <= 0 {
			t.reserved = t.reserved[1:]
			continue
		}
		if _, err := t.p.Admit(ctx, 0); err != nil {
			return err
		}
		err := t.punch(off, n)
		t.p.Finished(Moved{})
		if err != nil {
			return err
		}
		x.off, x.len = off+n, x.off+x.len-off-n
	}
	return nil
}

// chunk gives back the blocks that end in the part at off and are zeros. Under a
// limit a part may be less than a block, so that the whole of each is read.
func (t *trimming) chunk(_ context.Context, buf []byte, off int64) (Moved, error) {
	n := int64(len(buf))
	end := off + n
	if end < t.size {
		end -= end % t.block
	}
	first := off - off%t.block
	moved := Moved{Done: n, Durable: n, Read: n}
	if end <= first {
		return moved, nil
	}
	whole := buf[:end-first] // it crosses no multiple of a chunk, which has that room
	if err := readFull(t.f, whole, first); err != nil {
		return Moved{}, err
	}
	for len(whole) > 0 {
		n, zero := zeroRun(whole, first, t.block)
		if zero {
			if err := t.punch(first, int64(n)); err != nil {
				return Moved{}, err
			}
		}
		whole, first = whole[n:], first+int64(n)
	}
	return moved, nil
}

// punch gives back a range, to the end of its last block: a file's may have it
// behind its end.
func (t *trimming) punch(off, n int64) error {
	if t.file {
		n = roundUp(off+n, t.block) - off
	}
	t.punched.Store(true)
	t.zeros.Add(n)
	return ioError("trim", off, fallocate(t.f, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n))
}

// conclude says what has changed.
func (t *trimming) conclude() TrimStats {
	t.stats.Method, t.stats.Bytes = MethodNone, t.zeros.Load()
	if t.file {
		after, err := allocated(t.f)
		if t.stats.Bytes = t.before - after; err != nil || t.stats.Bytes < 0 {
			t.stats.Bytes = 0
		}
	}
	switch {
	case t.punched.Load() && t.file:
		t.stats.Method = MethodPunch
	case t.punched.Load():
		t.stats.Method = MethodDiscard
	}
	return t.stats
}

func roundUp(n, unit int64) int64 { return (n + unit - 1) / unit * unit }

// blockOf is the unit in which the file system of f gives blocks back.
func blockOf(f *os.File) int64 {
	var fs unix.Statfs_t
	err := retry(func() error { return unix.Fstatfs(int(f.Fd()), &fs) })
	if err != nil || fs.Bsize < leastChunk || fs.Bsize > chunkBytes || bits.OnesCount64(uint64(fs.Bsize)) != 1 {
		return alignment
	}
	return fs.Bsize
}
