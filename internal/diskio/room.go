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
// of f lacks and that writing all of it needs; some of it, holes, may be left out.
func checkOverwrite(ctx context.Context, f *os.File, part extent, holes int64) error {
	fi, err := f.Stat()
	if err != nil {
		return ioError("stat", nowhere, err)
	}
	room, err := roomOf(f)
	if err != nil || !fi.Mode().IsRegular() || part.len-holes <= room || compresses(f) {
		return err
	}
	own, err := ownExtents(ctx, f, part)
	if err != nil {
		return err
	}
	return checkRoom(f, part.len-holes-overlap(own, part))
}

// ownExtents gives what of a part of f has blocks that nothing else has: where
// it is written no more are needed.
func ownExtents(ctx context.Context, f *os.File, part extent) (own []extent, err error) {
	add := func(off, end int64) {
		off, end = max(off, part.off), min(end, part.off+part.len)
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
	_, err = walkUnwritten(ctx, f, size, func(x extent) error {
		add(x.off, x.off+x.len)
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = walkRange(ctx, f, part, func(x extent) error {
		if !x.hole {
			add(x.off, x.off+x.len)
		}
		return nil
	})
	slices.SortFunc(own, func(a, b extent) int { return int(min(max(a.off-b.off, -1), 1)) })
	return own, err
}

// overlap is how many bytes of x lie in the extents of a list, which are in order.
func overlap(list []extent, x extent) (n int64) {
	i, _ := slices.BinarySearchFunc(list, x.off, func(e extent, off int64) int {
		if e.off+e.len <= off {
			return -1
		}
		return 1
	})
	for ; i < len(list) && list[i].off < x.off+x.len; i++ {
		n += min(list[i].off+list[i].len, x.off+x.len) - max(list[i].off, x.off)
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
	room, err := roomOf(c.Dst)
	if err != nil || data <= room || c.DetectZeros || c.holes.device || compresses(c.Dst) {
		return err
	}
	own, err := ownExtents(ctx, c.Dst, extent{off: c.DstOff, len: c.Len})
	if err != nil {
		return err
	}
	need := int64(0)
	err = walkRange(ctx, c.Src, c.part(), func(x extent) error {
		have := overlap(own, extent{off: x.off - c.SrcOff + c.DstOff, len: x.len})
		switch {
		case !x.hole:
			need += x.len - have
		case c.holes.mode&unix.FALLOC_FL_PUNCH_HOLE != 0 && !c.Clean:
			need -= have
		}
		return nil
	})
	if err != nil {
		return err
	}
	return checkRoom(c.Dst, need)
}
