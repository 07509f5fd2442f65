package diskio

import (
	"context"
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// extent is a part of a file. A hole reads as zeros and needs no transfer.
type extent struct {
	off, len int64
	hole     bool
}

// walkExtents calls visit for each extent of the first size bytes of f, in
// order and without a gap, as SEEK_DATA and SEEK_HOLE tell them. Where the file
// system cannot tell, all is data. Dirty data counts as data everywhere, but
// f must have been flushed all the same: OpenZFS has lied about dirty files.
func walkExtents(ctx context.Context, f *os.File, size int64, visit func(extent) error) error {
	return walkRange(ctx, f, extent{len: size}, visit)
}

// walkRange is walkExtents from an offset on; r says which part of the file.
func walkRange(ctx context.Context, f *os.File, r extent, visit func(extent) error) error {
	size := r.off + r.len
	for off := r.off; off < size; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		data, err := seekTo(f, off, unix.SEEK_DATA, size)
		if err != nil {
			return err
		}
		if data > off {
			if err := visit(extent{off: off, len: data - off, hole: true}); err != nil {
				return err
			}
		}
		if data == size {
			return nil
		}
		if off, err = seekTo(f, data, unix.SEEK_HOLE, size); err != nil {
			return err
		}
		if err := visit(extent{off: data, len: off - data}); err != nil {
			return err
		}
	}
	return nil
}

// seekTo gives the next data or hole from off on, size if there is none.
func seekTo(f *os.File, off int64, whence int, size int64) (int64, error) {
	for {
		pos, err := unix.Seek(int(f.Fd()), off, whence)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ENXIO): // no data behind off
			return size, nil
		case errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP):
			if whence == unix.SEEK_DATA {
				return off, nil
			}
			return size, nil
		case err != nil:
			return 0, ioError(opFindData, off, err)
		}
		if whence == unix.SEEK_HOLE && pos <= off {
			return size, nil // a hole was punched meanwhile; copying zeros is right too
		}
		return min(pos, size), nil
	}
}

// fileSize is the size of a file or block device, in bytes.
func fileSize(f *os.File) (int64, error) {
	fi, err := f.Stat()
	if err != nil {
		return 0, ioError("stat", nowhere, err)
	}
	switch {
	case fi.Mode().IsRegular():
		return fi.Size(), nil
	case isBlockDevice(fi):
		n, err := f.Seek(0, io.SeekEnd)
		return n, ioError("stat", nowhere, err)
	}
	return 0, ioError("open", nowhere, ErrUnsupported)
}

func isBlockDevice(fi os.FileInfo) bool {
	return fi.Mode()&(os.ModeDevice|os.ModeCharDevice) == os.ModeDevice
}
