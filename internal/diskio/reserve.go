package diskio

import (
	"context"
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// reserve gives the target the blocks that it is to have whatever is written:
// those of the Allocation, and those that the source has without data. It does
// not count: the bytes of the phase are those of the content.
func (c *copying) reserve(ctx context.Context) error {
	if err := c.checkReserve(ctx); err != nil {
		return err
	}
	err := c.fallocate(ctx, Extent{Len: c.Allocation})
	if cannotFallocate(err) {
		c.fill = true
		return nil
	}
	if err != nil {
		return err
	}
	_, err = c.walkReserved(ctx, func(x Extent) error { return c.fallocate(ctx, x) })
	if cannotFallocate(err) { // what the copy has of it shows in its stats
		return nil
	}
	return err
}

// checkReserve counts what is to be reserved, and finds a lack of space for that
// and the data before the work.
func (c *copying) checkReserve(ctx context.Context) error {
	c.promised = c.Allocation
	exact, err := c.walkReserved(ctx, func(x Extent) error {
		c.promised += x.Len
		return nil
	})
	if f := storage(c.Dst); err == nil && f != nil {
		err = c.checkSpace(f)
	}
	if err != nil || exact {
		return err
	}
	return c.suspect()
}

// checkSpace looks for room in the file that the target is, or is stored in.
func (c *copying) checkSpace(f *os.File) error {
	need := c.promised
	if !c.Sparse && !compresses(f) {
		need += c.loose
	}
	if c.dst == nil && !c.Clean { // zeros are written there, too
		need = c.Size
	}
	have, err := allocated(f)
	if err != nil {
		return err
	}
	return checkRoom(f, withTables(c.Dst, need-have))
}

// fallocate reserves an extent piece by piece.
func (c *copying) fallocate(ctx context.Context, x Extent) error {
	steps := pieces{p: c.p, c: c.Dst, op: "allocate", call: reserving(c.p, c.dst)}
	for end := x.Off + x.Len; x.Off < end; x.Off += allocatePiece {
		if err := steps.one(ctx, x.Off, min(allocatePiece, end-x.Off)); err != nil {
			return err
		}
	}
	return nil
}

// unseenShare is the part of a file's blocks that may be the file system's own
// notes about it.
const unseenShare = 64

// suspect finds by their number blocks of the source without data where nobody
// says which they are: the copy cannot have kept them.
func (c *copying) suspect() error {
	have, err := allocated(c.src)
	if err == nil && have-have/unseenShare > c.stats.Data {
		c.promised = max(c.promised, have)
	}
	return err
}

// walkReserved visits what is to be reserved behind the Allocation; exact is
// that of walkUnwritten.
func (c *copying) walkReserved(ctx context.Context, visit func(Extent) error) (exact bool, err error) {
	if !c.Reserved || c.dst == nil || c.src == nil {
		return true, nil
	}
	return walkUnwritten(ctx, c.src, c.srcSize, func(x Extent) error {
		if n := min(c.Allocation-x.Off, x.Len); n > 0 {
			x.Off += n
			x.Len -= n
		}
		if x.Len == 0 {
			return nil
		}
		return visit(x)
	})
}

// walkUnwritten visits what has blocks in the first size bytes of f, and no
// data. Where nobody says which that is (tmpfs, NFS) a file that has as many
// blocks as it is long is taken for one that has them everywhere; with fewer,
// nothing is visited and exact is false.
func walkUnwritten(ctx context.Context, f *os.File, size int64, visit func(Extent) error) (exact bool, err error) {
	err = walkBlocks(ctx, f, func(x fiemapExtent) error {
		off, end := int64(x.logical), min(int64(x.logical+x.length), size)
		if x.flags&fiemapUnwritten == 0 || end <= off {
			return nil
		}
		return visit(Extent{Off: off, Len: end - off})
	})
	if !errors.Is(err, ErrUnsupported) {
		return true, err
	}
	have, err := allocated(f)
	if err != nil || have < size {
		return false, err
	}
	return true, walkAll(ctx, file{f}, size, func(x Extent) error {
		if x.Kind == Data {
			return nil
		}
		return visit(x)
	})
}

// keepInPlace makes the target one that is overwritten in place if the source
// is: it has to be said before anything is written, and blocks are shared with a
// file of the same kind alone. Most file systems overwrite in place anyway.
func (c *copying) keepInPlace() error {
	if !c.dstEmpty || c.src == nil || Flags(c.src)&FlagNoCopyOnWrite == 0 {
		return nil
	}
	flags := Flags(c.dst)
	if flags&FlagNoCopyOnWrite != 0 {
		return nil
	}
	err := unix.IoctlSetPointerInt(int(c.dst.Fd()), unix.FS_IOC_SETFLAGS, int(flags|FlagNoCopyOnWrite))
	if err == nil {
		return nil
	}
	kind, err := FileSystemOf(c.dst)
	c.stats.CopiesOnWrite = kind.CopiesOnWrite()
	return err
}
