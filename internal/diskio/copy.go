package diskio

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Reflink says whether a copy may share the blocks of its source.
type Reflink string

const (
	ReflinkAuto   Reflink = "auto"   // share where the file system can, else copy
	ReflinkAlways Reflink = "always" // share or fail
	ReflinkNever  Reflink = "never"  // own blocks for the target
)

// Methods of a copy.
const (
	MethodReflink = "reflink"
	MethodCopy    = "copy"
)

// CopySpec is what is to be copied.
type CopySpec struct {
	Dst, Src Content
	// Size is what the target shall have, in bytes, at least the source's size;
	// the rest reads as zeros. 0 is the source's size.
	Size int64
	// Reflink is auto if empty. A target that is not empty shares nothing.
	Reflink Reflink
	// Clean says that the target reads as zeros (new, or only allocated), so
	// that holes need not be written. An empty target is clean anyway.
	Clean bool
	// Allocation is how many bytes of the target, from its start, shall have
	// blocks, whatever is a hole in the source. It needs a clean target. Blocks
	// that are shared count; where all are shared no more is reserved for them.
	// Of a device it means nothing: that has all the storage it gets.
	Allocation int64
	// Reserved gives the target blocks also where the source has some without
	// data: what was preallocated stays so. It needs a clean target, too, and
	// means nothing of a device either.
	Reserved bool
	// Sparse leaves out what reads as zeros although the source has blocks for
	// it. Nothing is shared then, for the source has to be read.
	Sparse bool
	// Pull copies extents of the source to the target, which is clean and has the same
	// size, without their passing through this process, and returns when it has. What it
	// does not do is done here. nil: it does nothing.
	Pull func(extents []Extent) error
	// Checkpoints needs, to begin anywhere but at 0, the target that the earlier
	// copy of the same, unchanged source left.
	Checkpoints
}

// CopyStats is what a copy did. Sizes are bytes.
type CopyStats struct {
	Method string
	Bytes  int64 // content of the source, holes included
	Data   int64 // of Bytes: moved, or shared
	Holes  int64 // of Bytes: not written
	// Allocated is what the target occupies, by st_blocks, and Kept whether that
	// is as much as was asked for. Both are set only where blocks were to be
	// reserved.
	Allocated int64
	Kept      bool
	// CopiesOnWrite says that the source is overwritten in place (FS_NOCOW_FL),
	// and that the target, on a file system that writes elsewhere, is not.
	CopiesOnWrite bool
}

// Copy makes Dst read as Src and returns when that is durable. The source is
// flushed first and never changed; a source that becomes shorter meanwhile is
// ErrShrunk. After an error, or a cancel (whose cause is given), the content of
// the target is undefined and no I/O of ours is under way, but up to maxDirty
// bytes of it may still be dirty.
func Copy(ctx context.Context, p *Pacer, spec CopySpec) (CopyStats, error) {
	c, err := newCopying(p, spec)
	if err != nil {
		return CopyStats{}, err
	}
	if err := c.keepInPlace(); err != nil {
		return c.stats, err
	}
	shared, err := c.reflink(ctx)
	if err != nil {
		return c.stats, err
	}
	if shared {
		err = c.reserve(ctx) // what was a hole
	} else {
		err = c.copy(ctx)
	}
	if err != nil {
		return c.stats, err
	}
	return c.stats, c.conclude(ctx)
}

type copying struct {
	CopySpec
	p        *Pacer
	srcSize  int64
	src      *os.File // the source, nil if it is neither a file nor a device
	dst      *os.File // the target, nil if it is no regular file
	dstEmpty bool
	stats    CopyStats
	fill     bool // holes within Allocation are written, for want of fallocate
	holes    *holeMaker
	sift     *holeMaker                        // holes too, but nil if zeros are to be written
	read     func(buf []byte, off int64) error // of the source
	cache    *residency                        // nil where it is passed by
	pieces   int64                             // extents of data
	flusher  *flusher
	left     atomic.Int64 // bytes of data that were left out as zeros
	loose    int64        // bytes of data to be written where no blocks are promised
	promised int64        // bytes that shall have blocks, by Allocation and Reserved
}

func newCopying(p *Pacer, spec CopySpec) (*copying, error) {
	c := &copying{CopySpec: spec, p: p, src: FileOf(spec.Src), dst: regularOf(spec.Dst)}
	c.Reflink = cmp.Or(c.Reflink, ReflinkAuto)
	var err error
	if c.srcSize, err = contentSize(spec.Src); err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	dstSize, err := contentSize(spec.Dst)
	if err != nil {
		return nil, fmt.Errorf("target: %w", err)
	}
	c.dstEmpty = c.dst != nil && dstSize == 0
	c.Clean = c.Clean || c.dstEmpty
	c.Size = cmp.Or(c.Size, c.srcSize)
	c.fit(dstSize)
	c.Allocation = min(c.Allocation, c.Size)
	if c.Size < c.srcSize {
		return nil, fmt.Errorf("a target of %d bytes is smaller than the source of %d", c.Size, c.srcSize)
	}
	if c.dst == nil && dstSize < c.Size {
		return nil, ioError("write", dstSize, unix.ENOSPC)
	}
	if err := c.consistent(); err != nil {
		return nil, err
	}
	c.holes, err = newHoleMaker(p, c.Dst, c.Clean)
	if _, ok := spec.Dst.(thin); c.Sparse || ok {
		c.sift = c.holes
	}
	return c, err
}

// fit makes the copy one to a device, if it is: that has its storage, and what lies
// behind the copy is not to be what was there before.
func (c *copying) fit(dstSize int64) {
	if FileOf(c.Dst) == nil || c.dst != nil {
		return
	}
	c.Allocation, c.Reserved = 0, false
	if !c.Clean {
		c.Size = max(c.Size, dstSize)
	}
}

// consistent refuses wishes that cannot both be had.
func (c *copying) consistent() error {
	switch {
	case c.Allocation < 0:
		return fmt.Errorf("an allocation of %d bytes is negative", c.Allocation)
	case c.Allocation > 0 && (!c.Clean || c.dst == nil):
		return errors.New("only a new file can get an allocation with its content")
	case c.Reserved && (!c.Clean || c.Sparse):
		return errors.New("only a new file that gets all its content can have what its source reserved")
	case c.Allocation > 0 && c.Sparse:
		return errors.New("a copy that leaves zeros out cannot have an allocation")
	case c.Pull != nil && (!c.Clean || c.Sparse || c.Size != c.srcSize):
		return errors.New("only a new target of the same size can pull its content")
	case c.Sparse && c.Reflink == ReflinkAlways:
		return errors.New("a copy that shares its blocks cannot leave zeros out")
	case c.Sparse:
		c.Reflink = ReflinkNever
	}
	return nil
}

// copy moves the extents of the source.
func (c *copying) copy(ctx context.Context) error {
	c.stats.Method, c.stats.Bytes = MethodCopy, c.srcSize
	if err := flushSource(ctx, c.p, c.Src); err != nil {
		return err
	}
	if err := c.measure(ctx); err != nil {
		return err
	}
	if err := c.resizeTarget(); err != nil {
		return err
	}
	if err := c.reserve(ctx); err != nil { // now, so that want of space shows at once
		return err
	}
	if err := c.forget(ctx); err != nil {
		return err
	}
	defer c.openSource()()
	c.flusher = newFlusher(c.p, c.Dst)
	defer c.flusher.stop()
	keep := &checkpointer{Checkpoints: c.Checkpoints, sync: syncWith(c.p, c.flusher)}
	if err := c.move(ctx, keep); err != nil {
		return err
	}
	c.stats.Data -= c.left.Load()
	c.stats.Holes += c.left.Load()
	return c.flusher.drain(ctx)
}

// move moves the data, and makes holes where they are to be made.
func (c *copying) move(ctx context.Context, keep *checkpointer) error {
	if c.Pull != nil {
		return c.pull(ctx, keep)
	}
	s := streams{p: c.p, step: c.moveChunk, source: c.cache, keep: keep, requests: requests(c.Src, c.Dst)}
	return s.run(ctx, c.walk(ctx))
}

// walk visits the source's extents. Holes are made in a target that is not
// clean, or else visited as data, for a hole reads as the zeros to be written.
func (c *copying) walk(ctx context.Context) func(visit func(Extent) error) error {
	return func(visit func(Extent) error) error {
		clean := func(x Extent) error {
			if x.Kind != Data && c.fill && x.Off < c.Allocation {
				return c.fillHole(x, visit)
			}
			if x.Kind == Data || c.Clean {
				return visit(x)
			}
			made, err := c.holes.make(ctx, x)
			if err != nil {
				return err
			}
			if !made {
				c.p.Expect(0, -x.Len)
				x.Kind = Data
			}
			return visit(x)
		}
		if err := c.walkSource(ctx, clean); err != nil {
			return err
		}
		return clean(Extent{Off: c.srcSize, Len: c.Size - c.srcSize, Kind: Zero})
	}
}

// fillHole visits the part of a hole that is to have blocks as data.
func (c *copying) fillHole(x Extent, visit func(Extent) error) error {
	n := min(x.Len, c.Allocation-x.Off)
	c.p.Expect(0, -n)
	if err := visit(Extent{Off: x.Off, Len: n}); err != nil || n == x.Len {
		return err
	}
	return visit(Extent{Off: x.Off + n, Len: x.Len - n, Kind: Zero})
}

// forget gives back what an earlier copy wrote behind its last checkpoint: where the
// power failed that may be anything, and holes are not written.
func (c *copying) forget(ctx context.Context) error {
	if c.From == 0 || !c.Clean || FileOf(c.Dst) != nil {
		return nil
	}
	from := c.From &^ (pageSize - 1)
	holes := &holeMaker{p: c.p, c: c.Dst, unmap: true}
	made, err := holes.make(ctx, Extent{Off: from, Len: c.Size - from})
	if err == nil && !made {
		err = ioError("zero", from, ErrUnsupported)
	}
	return err
}

// measure finds how much of the source is data, for an honest total.
func (c *copying) measure(ctx context.Context) error {
	err := c.walkSource(ctx, func(x Extent) error {
		if x.Kind != Data {
			c.stats.Holes += x.Len
		} else {
			c.pieces++
			c.stats.Data += x.Len
			c.loose += max(0, x.End()-max(x.Off, c.Allocation))
		}
		return nil
	})
	tail := c.Size - c.srcSize
	c.p.Expect(c.srcSize+tail, c.stats.Holes+tail)
	return err
}

func (c *copying) resizeTarget() error {
	if c.dst == nil {
		return nil
	}
	return ioError("resize", nowhere, c.dst.Truncate(c.Size))
}

// moveChunk is the step of a copy. Behind the source's end there are zeros.
func (c *copying) moveChunk(ctx context.Context, buf []byte, off int64) (Moved, error) {
	if off >= c.srcSize {
		return writeAndFlush(ctx, c.flusher, zeros[:len(buf)], off)
	}
	if err := c.read(buf, off); err != nil {
		return Moved{}, err
	}
	m, err := place(ctx, c.flusher, c.sift, buf, off)
	m.Read = int64(len(buf))
	c.left.Add(m.Holes)
	return m, err
}

// conclude makes the target durable and checks that the source stayed whole.
func (c *copying) conclude(ctx context.Context) (err error) {
	if err := flush(ctx, c.p, c.Dst); err != nil {
		return err
	}
	dropCache(FileOf(c.Dst), 0, 0)
	if c.promised > 0 {
		if c.stats.Allocated, err = allocated(c.dst); err != nil {
			return err
		}
		c.stats.Kept = c.stats.Allocated >= c.promised
	}
	now, err := contentSize(c.Src)
	if err != nil {
		return err
	}
	if now < c.srcSize {
		return ioError(opRead, now, ErrShrunk)
	}
	return nil
}

// flush waits for the storage, as one chunk that a pause waits for.
func flush(ctx context.Context, p *Pacer, c Content) error {
	if _, err := p.Admit(ctx, 0); err != nil {
		return err
	}
	defer p.Finished(Moved{})
	return flushNow(c)
}

// flushSource makes the extent map of a source true; only that of a file may not
// be. It does so piece by piece, so that a source with gigabytes of dirty data can
// be canceled. What is dirty is no hole, so that holes cost nothing, however long
// they are.
func flushSource(ctx context.Context, p *Pacer, c Content) error {
	f := FileOf(c)
	if f == nil {
		return nil
	}
	size, err := fileSize(f)
	if err != nil {
		return err
	}
	err = walkAll(ctx, c, size, func(x Extent) error {
		if x.Kind != Data {
			return nil
		}
		return flushExtent(ctx, p, f, x)
	})
	if err != nil {
		return err
	}
	if _, err := p.Admit(ctx, 0); err != nil {
		return err
	}
	defer p.Finished(Moved{})
	return ioError(opFlush, nowhere, f.Sync())
}

func flushExtent(ctx context.Context, p *Pacer, f *os.File, x Extent) error {
	for end := x.Off + x.Len; x.Off < end; x.Off += maxDirty {
		if _, err := p.Admit(ctx, 0); err != nil {
			return err
		}
		err := syncRange(f, window{lo: x.Off, hi: min(x.Off+maxDirty, end)}, unix.SYNC_FILE_RANGE_WRITE_AND_WAIT)
		p.Finished(Moved{})
		if err != nil {
			return ioError(opFlush, x.Off, err)
		}
	}
	return nil
}
