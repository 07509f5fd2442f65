package blockdev

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"storaged/internal/procfs"
)

// Mount is one of the kernel's mounts.
type Mount struct{ procfs.Mount }

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

func mountOf(id uint64) Mount {
	for m := range procfs.Mounts(procfs.OwnMounts) {
		if m.ID == id {
			return Mount{m}
		}
	}
	return Mount{}
}

// Mounts are those that this process sees, later ones above earlier ones.
func Mounts() (all []Mount) {
	for m := range procfs.Mounts(procfs.OwnMounts) {
		all = append(all, Mount{m})
	}
	return all
}
