package diskio

import (
	"context"
	"errors"
	"os"
	"sync/atomic"
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

// Trim gives back the storage of what reads as zeros, and what a file has beyond
// its end; what is read from it is the same before, after, and half-way. Files
// get holes, block devices discard such that zeros are read back. Where neither
// can be done it is ErrUnsupported. Nobody else may write meanwhile.
func Trim(ctx context.Context, p *Pacer, c Content, keep Checkpoints) (TrimStats, error) {
	t, err := newTrimming(ctx, p, c, keep)
	if err != nil {
		return t.stats, err
	}
	if err = t.work(ctx); err == nil && t.beyond {
		t.punched.Store(true)
		err = ioError("trim", nowhere, t.f.Truncate(t.size))
	}
	err = synced(ctx, p, c, cannotTrim(err))
	return t.conclude(), err
}

// Preallocated is how much of a file has blocks that nothing was written to:
// somebody has reserved them. What a file system adds to each write because it
// was asked to allocate in large units does not count.
func Preallocated(ctx context.Context, c Content) (n int64, err error) {
	f := regularOf(c)
	if f == nil {
		return 0, nil
	}
	size, err := fileSize(f)
	if err != nil {
		return 0, err
	}
	stray := 2 * extentUnit(f)
	_, err = walkUnwritten(ctx, f, size, func(x Extent) error {
		if x.Len >= stray {
			n += x.Len
		}
		return nil
	})
	return n, err
}

type trimming struct {
	p        *Pacer
	c        Content
	f        *os.File // c, nil if it is no regular file
	size     int64
	block    int64
	keep     Checkpoints
	before   int64    // bytes that the file occupied
	reserved []Extent // of the file, have blocks and no data, in order
	beyond   bool     // there are blocks behind the end
	punched  atomic.Bool
	zeros    atomic.Int64 // given back, if it is no file
	stats    TrimStats
}

func newTrimming(ctx context.Context, p *Pacer, c Content, keep Checkpoints) (*trimming, error) {
	t := &trimming{p: p, c: c, f: regularOf(c), keep: keep, block: granularity(c)}
	var err error
	if t.size, err = contentSize(c); err != nil {
		return t, err
	}
	if err := flushSource(ctx, p, c); err != nil {
		return t, err
	}
	if t.f != nil {
		if t.before, err = allocated(t.f); err != nil {
			return t, err
		}
	}
	return t, t.survey(ctx)
}

// survey finds what has blocks without data, and how much need not be read.
func (t *trimming) survey(ctx context.Context) error {
	data, err := measure(ctx, t.c, Extent{Len: t.size}, Zero)
	if err != nil {
		return err
	}
	t.p.Expect(t.size, t.size-data)
	if t.f == nil {
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
			t.reserved, t.beyond = []Extent{{Len: t.size}}, true
		}
	}
	return err
}

func (t *trimming) work(ctx context.Context) error {
	source := newResidency(t.c, t.size)
	defer source.close()
	s := streams{
		p: t.p, source: source, step: t.chunk, requests: requests(t.c),
		keep: &checkpointer{Checkpoints: t.keep, sync: func(ctx context.Context) error { return flush(ctx, t.p, t.c) }},
	}
	return s.run(ctx, func(visit func(Extent) error) error {
		return walkAll(ctx, t.c, t.size, func(x Extent) error {
			if x.Kind == Zero && t.f == nil {
				t.reserved = []Extent{x}
			}
			if x.Kind != Data {
				if err := t.release(ctx, x); err != nil {
					return err
				}
			}
			return visit(x)
		})
	})
}

// release gives back what is reserved within a hole, piece by piece.
func (t *trimming) release(ctx context.Context, hole Extent) error {
	for len(t.reserved) > 0 && t.reserved[0].Off < hole.End() {
		x := &t.reserved[0]
		off := max(x.Off, hole.Off)
		n := min(x.End(), hole.End(), off+allocatePiece) - off
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
		x.Off, x.Len = off+n, x.End()-off-n
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
	if err := readFull(t.c, whole, first); err != nil {
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
	if t.f != nil {
		n = roundUp(off+n, t.block) - off
	}
	t.punched.Store(true)
	t.zeros.Add(n)
	return ioError("trim", off, t.c.Zero(off, n, true))
}

// conclude says what has changed.
func (t *trimming) conclude() TrimStats {
	t.stats.Method, t.stats.Bytes = MethodNone, t.zeros.Load()
	if t.f != nil {
		after, err := allocated(t.f)
		if t.stats.Bytes = t.before - after; err != nil || t.stats.Bytes < 0 {
			t.stats.Bytes = 0
		}
	}
	switch {
	case t.punched.Load() && t.f != nil:
		t.stats.Method = MethodPunch
	case t.punched.Load():
		t.stats.Method = MethodDiscard
	}
	return t.stats
}

func roundUp(n, unit int64) int64 { return (n + unit - 1) / unit * unit }
