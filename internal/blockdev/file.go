// Package blockdev is what the kernel says of the block devices below a file:
// which one it lies on, how that is mounted, and what lies below the device.
package blockdev

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Of gives the block device that f is, or lies on, as major:minor; "" if it has
// none (tmpfs, network).
func Of(f *os.File) (string, error) {
	st, err := Statx(f)
	switch {
	case err != nil:
		return "", err
	case st.Mode&unix.S_IFMT == unix.S_IFBLK:
		return number(st.Rdev_major, st.Rdev_minor), nil
	case st.Dev_major != 0:
		return number(st.Dev_major, st.Dev_minor), nil
	}
	return mountOf(st.Mnt_id).Carrier(), nil
}

func number(major, minor uint32) string { return fmt.Sprintf("%d:%d", major, minor) }

// Statx looks at an open file. Its error is the bare number: a caller names what it
// did.
func Statx(f *os.File) (st unix.Statx_t, err error) {
	for {
		err = unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_BASIC_STATS|unix.STATX_BTIME|unix.STATX_MNT_ID, &st)
		if !errors.Is(err, unix.EINTR) {
			return st, err
		}
	}
}
