// Package blockdev is what the kernel says of the block devices below a file:
// which one it lies on, how that is mounted, and what lies below the device.
package blockdev

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// mountinfo is where the kernel lists mounts.
const mountinfo = "/proc/self/mountinfo"

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
	// btrfs has numbers of its own; the mount names the device below it.
	var dev unix.Stat_t
	source := mountOf(st.Mnt_id).Source
	if !strings.HasPrefix(source, "/dev/") || unix.Stat(source, &dev) != nil || dev.Mode&unix.S_IFMT != unix.S_IFBLK {
		return "", nil
	}
	return number(unix.Major(dev.Rdev), unix.Minor(dev.Rdev)), nil
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

// Mount is what the kernel says of one (proc_pid_mountinfo(5)).
type Mount struct {
	Source  string // what is mounted
	Options string // of the file system
}

// MountOf is the mount that a file was opened below, empty where it is not listed.
func MountOf(f *os.File) (Mount, error) {
	st, err := Statx(f)
	if err != nil {
		return Mount{}, err
	}
	return mountOf(st.Mnt_id), nil
}

func mountOf(id uint64) Mount {
	f, err := os.Open(mountinfo)
	if err != nil {
		return Mount{}
	}
	defer f.Close() // opened for reading
	for in := bufio.NewScanner(f); in.Scan(); {
		mounted, super, ok := strings.Cut(in.Text(), " - ")
		words := strings.Fields(super)
		if ok && len(words) >= 3 && strings.HasPrefix(mounted, fmt.Sprintf("%d ", id)) {
			return Mount{Source: words[1], Options: words[2]}
		}
	}
	return Mount{}
}
