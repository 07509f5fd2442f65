package diskio

import (
	"context"
	"errors"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// FIEMAP of linux/fiemap.h, which package unix lacks.
const (
	fiemapRequest   = 0xC020660B // FS_IOC_FIEMAP
	fiemapSync      = 0x1
	fiemapLast      = 0x1
	fiemapEncoded   = 0x8
	fiemapUnwritten = 0x800
	fiemapShared    = 0x2000
	fiemapBatch     = 256
	fiemapToTheEnd  = ^uint64(0)
)

type fiemapHeader struct {
	start, length                   uint64
	flags, mapped, extents, reserve uint32
}

type fiemapExtent struct {
	logical, physical, length uint64
	_                         [2]uint64
	flags                     uint32
	_                         [3]uint32
}

type fiemap struct {
	fiemapHeader
	list [fiemapBatch]fiemapExtent
}

// walkBlocks calls visit for each extent of f that has blocks, in order. Unlike
// SEEK_DATA it tells allocated but unwritten ranges, which may hold old content
// physically, from real holes. Where FIEMAP is not there it is ErrUnsupported.
func walkBlocks(ctx context.Context, f *os.File, visit func(fiemapExtent) error) error {
	m := new(fiemap)
	for start := uint64(0); ; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		m.fiemapHeader = fiemapHeader{start: start, length: fiemapToTheEnd - start, extents: fiemapBatch}
		if start == 0 { // once is enough, and waits for everything dirty
			m.flags = fiemapSync
		}
		if err := fiemapCall(f, m); err != nil {
			return err
		}
		for _, x := range m.list[:m.mapped] {
			if err := visit(x); err != nil {
				return err
			}
			if x.flags&fiemapLast != 0 {
				return nil
			}
			start = x.logical + x.length
		}
		if m.mapped == 0 {
			return nil
		}
	}
}

func fiemapCall(f *os.File, m *fiemap) error {
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), fiemapRequest, uintptr(unsafe.Pointer(m)))
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
		case unix.EOPNOTSUPP, unix.ENOTTY, unix.ENOSYS:
			return ErrUnsupported
		default:
			return ioError("map extents", int64(m.start), errno)
		}
	}
}

// walkAllocated calls visit for each extent of the first size bytes, in order
// and without a gap; what is no Hole has storage. Where only SEEK_HOLE could
// tell, unwritten ranges are taken for holes.
func walkAllocated(ctx context.Context, c Content, size int64, visit func(Extent) error) error {
	f := FileOf(c)
	if f == nil {
		return walkAll(ctx, c, size, visit)
	}
	at := int64(0)
	upTo := func(off int64, kind Kind) error {
		off = min(off, size)
		if off <= at {
			return nil
		}
		x := Extent{Off: at, Len: off - at, Kind: kind}
		at = off
		return visit(x)
	}
	err := walkBlocks(ctx, f, func(x fiemapExtent) error {
		if err := upTo(int64(x.logical), Hole); err != nil {
			return err
		}
		return upTo(int64(x.logical+x.length), Data)
	})
	if errors.Is(err, ErrUnsupported) {
		return walkAll(ctx, c, size, func(x Extent) error {
			if x.Kind == Zero {
				x.Kind = Hole
			}
			return visit(x)
		})
	}
	if err != nil {
		return err
	}
	return upTo(size, Hole)
}
