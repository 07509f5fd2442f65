package diskio

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"storaged/internal/blockdev"
)

// NoRoomError says, before anything is written, that there is no room for all of
// it. It is an ENOSPC.
type NoRoomError struct {
	Needed, Available int64 // bytes
}

func (e *NoRoomError) Error() string {
	return fmt.Sprintf("%d bytes are needed, and %d available", e.Needed, e.Available)
}

// Unwrap gives ENOSPC.
func (e *NoRoomError) Unwrap() error { return unix.ENOSPC }

// checkRoom is a NoRoomError if the file system of f has no room for n bytes
// more.
func checkRoom(f *os.File, n int64) error {
	room, err := roomOf(f)
	if err != nil || n <= room {
		return err
	}
	return ioError("allocate", nowhere, &NoRoomError{Needed: n, Available: room})
}

// roomOf is what the file system of f has available; some tell no blocks at all.
func roomOf(f *os.File) (int64, error) {
	var fs unix.Statfs_t
	if err := retry(func() error { return unix.Fstatfs(int(f.Fd()), &fs) }); err != nil {
		return 0, ioError("stat file system", nowhere, err)
	}
	if fs.Blocks == 0 {
		return 1<<63 - 1, nil
	}
	return int64(fs.Bavail) * fs.Bsize, nil
}

// checkOverwrite is a NoRoomError if there is no room for the blocks that a part
// of c lacks and that writing all of it needs; some of it, holes, may be left out.
func checkOverwrite(ctx context.Context, c Content, part Extent, holes int64) error {
	f := regularOf(c)
	if f == nil {
		return nil
	}
	room, err := roomOf(f)
	if err != nil || part.Len-holes <= room || compresses(f) {
		return err
	}
	own, err := ownExtents(ctx, f, part)
	if err != nil {
		return err
	}
	return checkRoom(f, part.Len-holes-overlap(own, part))
}

// ownExtents gives what of a part of f has blocks that nothing else has: where
// it is written no more are needed.
func ownExtents(ctx context.Context, f *os.File, part Extent) (own []Extent, err error) {
	add := func(off, end int64) {
		off, end = max(off, part.Off), min(end, part.End())
		if end > off {
			own = appendExtent(own, off, end-off)
		}
	}
	err = walkBlocks(ctx, f, func(x fiemapExtent) error {
		if x.flags&fiemapShared == 0 {
			add(int64(x.logical), int64(x.logical+x.length))
		}
		return nil
	})
	if !errors.Is(err, ErrUnsupported) {
		return own, err
	}
	size, err := fileSize(f)
	if err != nil {
		return nil, err
	}
	_, err = walkUnwritten(ctx, f, size, func(x Extent) error {
		add(x.Off, x.End())
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = walk(ctx, file{f}, part, func(x Extent) error {
		if x.Kind == Data {
			add(x.Off, x.End())
		}
		return nil
	})
	slices.SortFunc(own, func(a, b Extent) int { return int(min(max(a.Off-b.Off, -1), 1)) })
	return own, err
}

// overlap is how many bytes of x lie in the extents of a list, which are in order.
func overlap(list []Extent, x Extent) (n int64) {
	i, _ := slices.BinarySearchFunc(list, x.Off, func(e Extent, off int64) int {
		if e.End() <= off {
			return -1
		}
		return 1
	})
	for ; i < len(list) && list[i].Off < x.End(); i++ {
		n += min(list[i].Off+list[i].Len, x.End()) - max(list[i].Off, x.Off)
	}
	return n
}

// comprFlag is FS_COMPR_FL of linux/fs.h, which package unix lacks.
const comprFlag = 0x00000004

// compresses reports whether what is written to f may need fewer blocks than it
// has bytes, so that there is room until there is none.
func compresses(f *os.File) bool {
	kind, err := FileSystemOf(f)
	switch {
	case err != nil || kind == ZFS || kind == Bcachefs || Flags(f)&comprFlag != 0:
		return true
	case kind != unix.BTRFS_SUPER_MAGIC:
		return false
	}
	mount, err := blockdev.MountOf(f)
	return err != nil || strings.Contains(mount.Options, "compress")
}

// checkRoom is a NoRoomError if the data of the source needs more blocks than
// the target has there, than the holes give back, and than there are.
func (c *placing) checkRoom(ctx context.Context, data int64) error {
	f := regularOf(c.Dst)
	if f == nil || c.DetectZeros {
		return nil
	}
	room, err := roomOf(f)
	if err != nil || data <= room || compresses(f) {
		return err
	}
	own, err := ownExtents(ctx, f, Extent{Off: c.DstOff, Len: c.Len})
	if err != nil {
		return err
	}
	need := int64(0)
	err = walk(ctx, c.Src, c.part(), func(x Extent) error {
		have := overlap(own, Extent{Off: x.Off - c.SrcOff + c.DstOff, Len: x.Len})
		switch {
		case x.Kind == Data:
			need += x.Len - have
		case c.holes.unmap && !c.Clean:
			need -= have
		}
		return nil
	})
	if err != nil {
		return err
	}
	return checkRoom(f, need)
}
