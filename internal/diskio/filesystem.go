package diskio

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// FileSystem is a type of file system, by the number that statfs(2) gives.
type FileSystem int64

// File systems that package unix lacks.
const (
	ZFS      FileSystem = 0x2fc12fc1 // ZFS_SUPER_MAGIC of OpenZFS
	Bcachefs FileSystem = 0xca451a4e // BCACHEFS_STATFS_MAGIC
	UBIFS    FileSystem = 0x24051905 // UBIFS_SUPER_MAGIC
)

// copyOnWrite are those on which writing a block again does not reach the old one.
var copyOnWrite = map[FileSystem]bool{unix.BTRFS_SUPER_MAGIC: true, ZFS: true, Bcachefs: true, unix.F2FS_SUPER_MAGIC: true,
	unix.NILFS_SUPER_MAGIC: true, UBIFS: true, unix.JFFS2_SUPER_MAGIC: true}

// FileSystemOf gives the type of the one that f lies on.
func FileSystemOf(f *os.File) (FileSystem, error) {
	var fs unix.Statfs_t
	err := retry(func() error { return unix.Fstatfs(int(f.Fd()), &fs) })
	return FileSystem(fs.Type) & 0xffffffff, ioError("stat file system", nowhere, err)
}

// CopiesOnWrite reports whether a block that is written again is written
// elsewhere, unless a file asks for another treatment.
func (t FileSystem) CopiesOnWrite() bool { return copyOnWrite[t] }

// FlagNoCopyOnWrite is FS_NOCOW_FL of linux/fs.h, which package unix lacks: a
// file on btrfs is overwritten in place where it shares nothing.
const FlagNoCopyOnWrite = 0x00800000

// Flags are those of ioctl_iflags(2), none where there are no such.
func Flags(f *os.File) uint32 {
	flags, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil {
		return 0
	}
	return flags
}

// retry repeats a call that a signal interrupted.
func retry(call func() error) error {
	for {
		if err := call(); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}
