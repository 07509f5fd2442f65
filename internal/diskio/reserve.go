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
	err := c.fallocate(ctx, extent{len: c.Allocation})
	if cannotFallocate(err) {
		c.fill = true
		return nil
	}
	if err != nil {
		return err
	}
	_, err = c.walkReserved(ctx, func(x extent) error { return c.fallocate(ctx, x) })
	if cannotFallocate(err) { // what the copy has of it shows in its stats
		return nil
	}
	return err
}

// checkReserve counts what is to be reserved, and finds a lack of space for that
// and the data before the work.
func (c *copying) checkReserve(ctx context.Context) error {
	c.promised = c.Allocation
	exact, err := c.walkReserved(ctx, func(x extent) error {
		c.promised += x.len
		return nil
	})
	if err == nil && c.dstFile {
		err = c.checkSpace()
	}
	if err != nil || exact {
		return err
	}
	return c.suspect()
}

func (c *copying) checkSpace() error {
	need := c.promised
	if !c.Sparse && !compresses(c.Dst) {
		need += c.loose
	}
	have, err := allocated(c.Dst)
	if err != nil {
		return err
	}
	return checkRoom(c.Dst, need-have)
}

// fallocate reserves an extent piece by piece.
func (c *copying) fallocate(ctx context.Context, x extent) error {
	steps := pieces{p: c.p, f: c.Dst, op: "allocate", call: reserving(c.p, c.Dst)}
	for end := x.off + x.len; x.off < end; x.off += allocatePiece {
		if err := steps.one(ctx, x.off, min(allocatePiece, end-x.off)); err != nil {
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
	have, err := allocated(c.Src)
	if err == nil && have-have/unseenShare > c.stats.Data {
		c.promised = max(c.promised, have)
	}
	return err
}

// walkReserved visits what is to be reserved behind the Allocation; exact is
// that of walkUnwritten.
func (c *copying) walkReserved(ctx context.Context, visit func(extent) error) (exact bool, err error) {
	if !c.Reserved || !c.dstFile {
		return true, nil
	}
	return walkUnwritten(ctx, c.Src, c.srcSize, func(x extent) error {
		if n := min(c.Allocation-x.off, x.len); n > 0 {
			x.off += n
			x.len -= n
		}
		if x.len == 0 {
			return nil
		}
		return visit(x)
	})
}

// walkUnwritten visits what has blocks in the first size bytes of f, and no
// data. Where nobody says which that is (tmpfs, NFS) a file that has as many
// blocks as it is long is taken for one that has them everywhere; with fewer,
// nothing is visited and exact is false.
func walkUnwritten(ctx context.Context, f *os.File, size int64, visit func(extent) error) (exact bool, err error) {
	err = walkBlocks(ctx, f, func(x fiemapExtent) error {
		off, end := int64(x.logical), min(int64(x.logical+x.length), size)
		if x.flags&fiemapUnwritten == 0 || end <= off {
			return nil
		}
		return visit(extent{off: off, len: end - off})
	})
	if !errors.Is(err, ErrUnsupported) {
		return true, err
	}
	have, err := allocated(f)
	if err != nil || have < size {
		return false, err
	}
	return true, walkExtents(ctx, f, size, func(x extent) error {
		if !x.hole {
			return nil
		}
		return visit(x)
	})
}

// keepInPlace makes the target one that is overwritten in place if the source
// is: it has to be said before anything is written, and blocks are shared with a
// file of the same kind alone. Most file systems overwrite in place anyway.
func (c *copying) keepInPlace() error {
	if !c.dstEmpty || Flags(c.Src)&FlagNoCopyOnWrite == 0 {
		return nil
	}
	flags := Flags(c.Dst)
	if flags&FlagNoCopyOnWrite != 0 {
		return nil
	}
	err := unix.IoctlSetPointerInt(int(c.Dst.Fd()), unix.FS_IOC_SETFLAGS, int(flags|FlagNoCopyOnWrite))
	if err == nil {
		return nil
	}
	kind, err := FileSystemOf(c.Dst)
	c.stats.CopiesOnWrite = kind.CopiesOnWrite()
	return err
}
