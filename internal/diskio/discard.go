package diskio

import (
	"context"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Discard gives all blocks of a file or device back: holes by fallocate(2), or
// BLKDISCARD. It is ErrUnsupported where that cannot be.
func Discard(ctx context.Context, p *Pacer, f *os.File) error {
	size, err := fileSize(f)
	if err != nil {
		return err
	}
	fi, err := f.Stat()
	if err != nil {
		return ioError("stat", nowhere, err)
	}
	call := discard
	if fi.Mode().IsRegular() {
		call = punch
	}
	dropCache(f, 0, 0)
	err = pieces{p: p, f: f, op: "trim", call: func(off, n int64) error { return call(f, off, n) }}.run(ctx, 0, size)
	if cannotFallocate(err) {
		err = ioError("trim", nowhere, ErrUnsupported)
	}
	return synced(ctx, p, f, err)
}

func punch(f *os.File, off, n int64) error {
	return fallocate(f, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
}

// discard is BLKDISCARD of linux/fs.h.
func discard(f *os.File, off, n int64) error {
	part := [2]uint64{uint64(off), uint64(n)}
	return retry(func() error {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.BLKDISCARD, uintptr(unsafe.Pointer(&part)))
		if errno != 0 {
			return errno
		}
		return nil
	})
}
