package blockdev

import (
	"bufio"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"storaged/internal/procfs"
)

// mountinfo is where the kernel lists mounts.
const mountinfo = "/proc/self/mountinfo"

// Mount is what the kernel says of one (proc_pid_mountinfo(5)).
type Mount struct {
	ID      uint64
	Device  string // of the file system, as major:minor; of some it is no device's
	Root    string // what of the file system is mounted
	Point   string // where
	Kind    string // of the file system
	Source  string // what is mounted
	Options string // of the file system
}

// Carrier is the device below the file system, as major:minor; "" if there is none.
// btrfs has numbers of its own; the mount names the device below it, or one of them.
func (m Mount) Carrier() string {
	var dev unix.Stat_t
	switch {
	case m.Device != "" && !strings.HasPrefix(m.Device, "0:"):
		return m.Device
	case !strings.HasPrefix(m.Source, "/dev/") || unix.Stat(m.Source, &dev) != nil || dev.Mode&unix.S_IFMT != unix.S_IFBLK:
		return ""
	}
	return number(unix.Major(dev.Rdev), unix.Minor(dev.Rdev))
}

// MountOf is the mount that a file was opened below, empty where it is not listed.
func MountOf(f *os.File) (Mount, error) {
	st, err := Statx(f)
	if err != nil {
		return Mount{}, err
	}
	return mountOf(st.Mnt_id), nil
}

// MountAt is the mount whose root a directory is; ok is false for one that is none.
func MountAt(dir *os.File) (m Mount, ok bool, err error) {
	st, err := Statx(dir)
	if err != nil || st.Attributes&unix.STATX_ATTR_MOUNT_ROOT == 0 {
		return Mount{}, false, err
	}
	return mountOf(st.Mnt_id), true, nil
}

func mountOf(id uint64) (found Mount) {
	eachMount(func(m Mount) bool {
		found = m
		return m.ID != id
	})
	if found.ID != id {
		return Mount{}
	}
	return found
}

// Mounts are those that this process sees, later ones above earlier ones.
func Mounts() (all []Mount) {
	eachMount(func(m Mount) bool {
		all = append(all, m)
		return true
	})
	return all
}

// eachMount calls do for each mount until it gives false.
func eachMount(do func(Mount) bool) {
	f, err := os.Open(mountinfo)
	if err != nil {
		return
	}
	defer f.Close() // opened for reading
	for in := bufio.NewScanner(f); in.Scan(); {
		mounted, super, ok := strings.Cut(in.Text(), " - ")
		at, of := strings.Fields(mounted), strings.Fields(super)
		if !ok || len(at) < 5 || len(of) < 3 {
			continue
		}
		id, err := strconv.ParseUint(at[0], 10, 64)
		m := Mount{ID: id, Device: at[2], Root: procfs.Unescape(at[3]), Point: procfs.Unescape(at[4]), Kind: of[0], Source: procfs.Unescape(of[1]), Options: of[2]}
		if err == nil && !do(m) {
			return
		}
	}
}
