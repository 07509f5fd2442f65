package diskio

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"
)

// reflinkPiece is shared in one call, which cannot be interrupted: 16 GiB of
// badly fragmented file take well under a second.
const reflinkPiece = 16 << 30

// reflink shares the source's blocks if it may and can. Not being able to is an
// error only for ReflinkAlways.
func (c *copying) reflink(ctx context.Context) (done bool, err error) {
	if c.Reflink == ReflinkNever || c.srcSize == 0 || c.Reflink == ReflinkAuto && (!c.dstEmpty || c.src == nil) {
		return false, nil
	}
	if !c.dstEmpty || c.src == nil {
		return false, ioError(opReflink, nowhere, errNotEmpty)
	}
	for off := int64(0); off < c.srcSize; off += reflinkPiece {
		if err := c.reflinkAt(ctx, off); err != nil {
			if off == 0 && c.Reflink == ReflinkAuto && cannotShare(err) {
				return false, nil
			}
			return false, err
		}
	}
	c.stats.Method, c.stats.Bytes, c.stats.Data = MethodReflink, c.srcSize, c.srcSize
	c.p.skip(c.Size - c.srcSize)
	return true, c.resizeTarget()
}

var errNotEmpty = errors.New("only an empty target can share blocks")

func (c *copying) reflinkAt(ctx context.Context, off int64) error {
	if _, err := c.p.Admit(ctx, 0); err != nil {
		return err
	}
	n := min(c.srcSize-off, reflinkPiece)
	arg := unix.FileCloneRange{Src_fd: int64(c.src.Fd()), Src_offset: uint64(off), Src_length: uint64(n), Dest_offset: uint64(off)}
	if off+n == c.srcSize {
		arg.Src_length = 0 // to the end: the length of the last block is not aligned
	}
	err := unix.IoctlFileCloneRange(int(c.dst.Fd()), &arg)
	if err != nil {
		c.p.Finished(Moved{})
		return ioError(opReflink, off, err)
	}
	if off == 0 {
		c.p.Expect(c.Size, c.Size)
	}
	c.p.Finished(Moved{Done: n, Durable: n, Light: n})
	return nil
}

// Shared notes that so many bytes of a content are in place at once, by their store.
func Shared(ctx context.Context, p *Pacer, bytes int64) error {
	if _, err := p.Admit(ctx, 0); err != nil {
		return err
	}
	p.Expect(bytes, bytes)
	p.Finished(Moved{Done: bytes, Durable: bytes, Light: bytes})
	return nil
}

// cannotShare tells "this pair of files cannot" from a failure.
func cannotShare(err error) bool {
	for _, e := range []error{unix.EOPNOTSUPP, unix.ENOTTY, unix.ENOSYS, unix.EXDEV, unix.EINVAL, unix.EPERM} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
