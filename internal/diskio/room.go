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
	Needed, Available int64 // bytes: what is needed beside what the file has already
}

func (e *NoRoomError) Error() string {
	return fmt.Sprintf("%d bytes more are needed, and %d are available", e.Needed, e.Available)
}

// Unwrap gives ENOSPC.
func (e *NoRoomError) Unwrap() error { return unix.ENOSPC }

// Beneath is implemented by contents that a file has in a form of its own: images.
type Beneath interface {
	// Beneath is that file; nil: nobody can tell how much of it a content takes.
	Beneath() *os.File
	// Own is the content without what other files have of it.
	Own() Content
}

// storage is the regular file in which a content takes room; nil where it is none, or
// nobody can tell.
func storage(c Content) *os.File {
	if b, ok := c.(Beneath); ok {
		return regular(b.Beneath())
	}
	return regularOf(c)
}

// tablesShare is how many bytes of an image have a byte of tables, at least.
const tablesShare = 8192

// withTables is what so many bytes of a content take, at least.
func withTables(c Content, n int64) int64 {
	if _, ok := c.(Beneath); ok {
		return n + n/tablesShare
	}
	return n
}

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
	f := storage(c)
	if f == nil {
		return nil
	}
	room, err := roomOf(f)
	if err != nil || withTables(c, part.Len-holes) <= room || compresses(f) {
		return err
	}
	own, err := occupancyOf(ctx, c, part)
	if err != nil {
		return err
	}
	return checkRoom(f, own.lack(c, part.Len-holes, overlap(own.extents, part)))
}

// occupancy is what the file of a content has already.
type occupancy struct {
	extents []Extent // of a part of the content: they have blocks that nothing else has
	blocks  int64    // bytes that the file of an image has, and
	spare   int64    // of those what holds nothing of its content
}

// lack is how many bytes more a content needs at least that writes n bytes of data, of
// which have lie where it has its own. Of an image nobody knows where in its file which
// are: what it has beside its content may be for the new, and all that it has may be
// where that will lie.
func (o occupancy) lack(c Content, n, have int64) int64 {
	return withTables(c, max(n-have-o.spare, n-o.blocks, 0))
}

// occupancyOf looks what the file of a content has of a part of it.
func occupancyOf(ctx context.Context, c Content, part Extent) (o occupancy, err error) {
	b, ok := c.(Beneath)
	if !ok {
		o.extents, err = ownExtents(ctx, regularOf(c), part)
		o.blocks = 1<<63 - 1
		return o, err
	}
	size, err := contentSize(c)
	if err == nil {
		o.blocks, err = allocated(b.Beneath())
	}
	if err != nil {
		return o, err
	}
	o.spare = o.blocks
	err = walk(ctx, b.Own(), Extent{Len: size}, func(x Extent) error {
		if x.Kind != Data {
			return nil
		}
		o.spare -= x.Len
		if off, end := max(x.Off, part.Off), min(x.End(), part.End()); end > off {
			o.extents = appendExtent(o.extents, off, end-off)
		}
		return nil
	})
	o.spare = max(o.spare, 0)
	return o, err
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
	f := storage(c.Dst)
	if f == nil || c.DetectZeros {
		return nil
	}
	room, err := roomOf(f)
	if err != nil || withTables(c.Dst, data) <= room || compresses(f) {
		return err
	}
	own, err := occupancyOf(ctx, c.Dst, Extent{Off: c.DstOff, Len: c.Len})
	if err != nil {
		return err
	}
	have := int64(0) // of the data, less what the holes give back
	err = walk(ctx, c.Src, c.part(), func(x Extent) error {
		is := overlap(own.extents, Extent{Off: x.Off - c.SrcOff + c.DstOff, Len: x.Len})
		if x.Kind == Data || c.holes.unmap && !c.Clean {
			have += is
		}
		return nil
	})
	if err != nil {
		return err
	}
	return checkRoom(f, own.lack(c.Dst, data, have))
}
