package dir

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// sysfs and mountinfo are where the kernel tells of devices and mounts.
const (
	sysfs     = "/sys"
	mountinfo = "/proc/self/mountinfo"
)

// diskOf finds the whole device that carries a file, as major:minor; "" if
// there is none (tmpfs, network) or more than one.
func diskOf(st *unix.Statx_t) string {
	if st.Dev_major != 0 {
		return wholeDisk(sysfs, fmt.Sprintf("%d:%d", st.Dev_major, st.Dev_minor))
	}
	// btrfs has devices of its own; the mount tells which is below it.
	var dev unix.Stat_t
	source := mountSource(st.Mnt_id)
	if !strings.HasPrefix(source, "/dev/") || unix.Stat(source, &dev) != nil || dev.Mode&unix.S_IFMT != unix.S_IFBLK {
		return ""
	}
	return wholeDisk(sysfs, fmt.Sprintf("%d:%d", unix.Major(dev.Rdev), unix.Minor(dev.Rdev)))
}

// maxStack bounds how deep devices lie upon each other.
const maxStack = 16

// wholeDisk goes from a partition to its disk and from a mapped device to the
// one below it, as far as that is a single one.
func wholeDisk(sysfs, dev string) string {
	for range maxStack {
		path, err := filepath.EvalSymlinks(filepath.Join(sysfs, "dev/block", dev))
		if err != nil {
			return ""
		}
		if _, err := os.Stat(filepath.Join(path, "partition")); err == nil {
			path = filepath.Dir(path)
		}
		below, err := filepath.Glob(filepath.Join(path, "slaves/*/dev"))
		if err != nil {
			return "" // the kernel's path looks like a pattern
		}
		if len(below) == 1 {
			path = filepath.Dir(below[0])
		}
		next, err := os.ReadFile(filepath.Join(path, "dev"))
		if err != nil {
			return ""
		}
		dev = strings.TrimSpace(string(next))
		if len(below) != 1 {
			return dev
		}
	}
	return dev
}

// mountSource is what is mounted, by the mount's number (proc_pid_mountinfo(5)).
func mountSource(id uint64) string {
	f, err := os.Open(mountinfo)
	if err != nil {
		return ""
	}
	defer f.Close() // opened for reading
	for in := bufio.NewScanner(f); in.Scan(); {
		mount, super, ok := strings.Cut(in.Text(), " - ")
		words := strings.Fields(super)
		if ok && len(words) >= 2 && strings.HasPrefix(mount, fmt.Sprintf("%d ", id)) {
			return words[1]
		}
	}
	return ""
}
