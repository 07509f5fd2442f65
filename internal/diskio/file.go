package diskio

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// file is a Content by its descriptor. What only a descriptor can do besides
// (share blocks, reserve them, pass the page cache by) is found by FileOf.
type file struct{ *os.File }

// FileContent is the content of an open file or block device.
func FileContent(f *os.File) Content { return file{f} }

// FileOf is the file or block device that a content is, nil if it is neither.
func FileOf(c Content) *os.File {
	switch f := c.(type) {
	case file:
		return f.File
	case thin:
		return f.File
	}
	return nil
}

// regularOf is the regular file that a content is, nil if it is none.
func regularOf(c Content) *os.File { return regular(FileOf(c)) }

// regular is the file if it is a regular one, else nil.
func regular(f *os.File) *os.File {
	if f == nil {
		return nil
	}
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return nil
	}
	return f
}

// Size is that of a file or block device; others are ErrUnsupported.
func (f file) Size() (int64, error) { return fileSize(f.File) }

// Extents gives the next data and what comes before it, by SEEK_DATA and SEEK_HOLE:
// who moves it need not wait for more. Where the file system cannot tell, all is
// data. Dirty data counts as data everywhere, but the file must have been flushed
// all the same: OpenZFS has lied about dirty files.
func (f file) Extents(list []Extent, off, end int64) (n int, err error) {
	data, err := seekTo(f.File, off, unix.SEEK_DATA, end)
	if err != nil {
		return 0, err
	}
	if data > off {
		list[n] = Extent{Off: off, Len: data - off, Kind: Zero}
		n++
	}
	if data == end || n == len(list) {
		return n, nil
	}
	hole, err := seekTo(f.File, data, unix.SEEK_HOLE, end)
	list[n] = Extent{Off: data, Len: hole - data}
	return n + 1, err
}

// seekTo gives the next data or hole from off on, end if there is none.
func seekTo(f *os.File, off int64, whence int, end int64) (int64, error) {
	for {
		pos, err := unix.Seek(int(f.Fd()), off, whence)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ENXIO): // no data behind off
			return end, nil
		case errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP):
			if whence == unix.SEEK_DATA {
				return off, nil
			}
			return end, nil
		case err != nil:
			return 0, ioError(opFindData, off, err)
		}
		if whence == unix.SEEK_HOLE && pos <= off {
			return end, nil // a hole was punched meanwhile; copying zeros is right too
		}
		return min(pos, end), nil
	}
}

// Zero is fallocate(2), of a block device too. Of one that cannot make zeros by itself
// the kernel would write them, for as long as that takes.
func (f file) Zero(off, n int64, unmap bool) error {
	if !unmap && !f.zeroes() {
		return ErrUnsupported
	}
	mode := uint32(unix.FALLOC_FL_ZERO_RANGE)
	if unmap {
		mode = unix.FALLOC_FL_PUNCH_HOLE
	}
	err := fallocate(f.File, mode|unix.FALLOC_FL_KEEP_SIZE, off, n)
	if cannotFallocate(err) || errors.Is(err, unix.EINVAL) { // or not by these offsets
		return ErrUnsupported
	}
	return err
}

// zeroes reports whether zeros are made of a part without being written: by any file
// system, and by devices that say so (sysfs-block, queue/write_zeroes_max_bytes).
func (f file) zeroes() bool {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return true
	}
	dir := fmt.Sprintf("/sys/dev/block/%d:%d/", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	for _, queue := range []string{"queue", "../queue"} { // a partition has its disk's
		if most, err := os.ReadFile(dir + queue + "/write_zeroes_max_bytes"); err == nil {
			return strings.TrimSpace(string(most)) != "0"
		}
	}
	return false
}

// Discard punches a hole in a file; of a device it is BLKDISCARD of linux/fs.h.
func (f file) Discard(off, n int64) error {
	if regularOf(f) != nil {
		return f.Zero(off, n, true)
	}
	part := [2]uint64{uint64(off), uint64(n)}
	err := retry(func() error {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.BLKDISCARD, uintptr(unsafe.Pointer(&part)))
		if errno != 0 {
			return errno
		}
		return nil
	})
	if cannotFallocate(err) {
		return ErrUnsupported
	}
	return err
}

// Flush is fsync(2).
func (f file) Flush() error { return f.Sync() }

// Granularity is the block of the file system.
func (f file) Granularity() int64 {
	if regularOf(f) == nil {
		return alignment
	}
	var fs unix.Statfs_t
	if err := retry(func() error { return unix.Fstatfs(int(f.Fd()), &fs) }); err != nil {
		return 0
	}
	return fs.Bsize
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
