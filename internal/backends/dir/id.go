package dir

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"storaged/internal/backends"
)

// id is by what the directory is known again. Device and inode are not enough:
// the kernel gives those of a file system that was unmounted to the next one,
// whose root has the inode that any root of its type has.
func (d *poolDir) id() (id backends.PoolID, err error) {
	st, err := statFile(d.File)
	if err != nil {
		return id, err
	}
	var fs unix.Statfs_t
	if err := retry(func() error { return unix.Fstatfs(d.fd(), &fs) }); err != nil {
		return id, err
	}
	id = backends.PoolID{Device: unix.Mkdev(st.Dev_major, st.Dev_minor), Inode: st.Ino, Stamp: stamp(&fs, &st)}
	return id, nil
}

// stamp tells a directory from one on another file system, where that is sure
// to be the same after each mount: by the file system's id of statfs(2), which
// those with a uuid make of it, and by the time of birth of the directory. One
// that was made in the same second as another can be told by the id alone (mkfs
// knows but seconds), one of xfs by the time alone: its id is but the device.
// Of NFS the kernel has neither; its inode is the server's. Where the inode is
// another after each mount, all that stays is the kind of file system.
func stamp(fs *unix.Statfs_t, st *unix.Statx_t) string {
	var uuid [2]int32
	switch fs.Type {
	case unix.EXT4_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.TMPFS_MAGIC: // ext2 and ext3 have the number of ext4
		uuid = fs.Fsid.Val
	case unix.XFS_SUPER_MAGIC:
	case unix.MSDOS_SUPER_MAGIC, unix.EXFAT_SUPER_MAGIC, unix.FUSE_SUPER_MAGIC, unix.OVERLAYFS_SUPER_MAGIC, unix.V9FS_MAGIC,
		unix.CIFS_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC:
		return fmt.Sprintf("%s%x", passing, uint32(fs.Type))
	default:
		return ""
	}
	var born int64
	if st.Mask&unix.STATX_BTIME != 0 {
		born = st.Btime.Sec*1e9 + int64(st.Btime.Nsec)
	}
	return fmt.Sprintf("%08x%08x.%x", uint32(uuid[0]), uint32(uuid[1]), uint64(born))
}

// passing begins the stamp of a directory whose inode may be another after its
// file system was mounted anew.
const passing = "~"

// knownAs reports whether the directory found is the one that is known. Without
// a device it may have been mounted anew since.
func knownAs(known, found backends.PoolID) bool {
	if known.Device == 0 && strings.HasPrefix(found.Stamp, passing) {
		known.Inode = 0
	}
	return known.Matches(found)
}
