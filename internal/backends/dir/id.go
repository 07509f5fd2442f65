package dir

import (
	"fmt"

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
// Of NFS, FUSE and overlay the kernel has neither, or passes on what another
// program says.
func stamp(fs *unix.Statfs_t, st *unix.Statx_t) string {
	var uuid [2]int32
	switch fs.Type {
	case unix.EXT4_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.TMPFS_MAGIC: // ext2 and ext3 have the number of ext4
		uuid = fs.Fsid.Val
	case unix.XFS_SUPER_MAGIC:
	default:
		return ""
	}
	var born int64
	if st.Mask&unix.STATX_BTIME != 0 {
		born = st.Btime.Sec*1e9 + int64(st.Btime.Nsec)
	}
	return fmt.Sprintf("%08x%08x.%x", uint32(uuid[0]), uint32(uuid[1]), uint64(born))
}
