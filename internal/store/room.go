package store

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// minRoom is what a new job must find free, in bytes: its results and its log
// go there, and a helper that cannot save a result has to wait with it.
const minRoom = 1 << 20

// kernelBlocks is what ext4 keeps of the free blocks for itself, at most, unless
// set otherwise: reserved_clusters in /sys/fs/ext4, Documentation/ABI/testing/sysfs-fs-ext4.
const kernelBlocks = 4096

// Room is why no new job should be recorded, although it could be: nil, or an
// error that wraps ErrUnwritable, where the file system is all but full.
func (s *Store) Room() error {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(s.lock.Fd()), &fs); err != nil || fs.Blocks == 0 || fs.Frsize <= 0 {
		return nil // what is not known is found out by who writes
	}
	blocks := fs.Bavail
	if os.Geteuid() == 0 { // what is reserved is so for root, but for what the kernel keeps
		blocks = max(blocks, fs.Bfree-min(fs.Bfree, kernelBlocks))
	}
	if size := uint64(fs.Frsize); blocks <= minRoom/size {
		return fmt.Errorf("%w: only %d bytes are free where it lies, and a job may need %d", ErrUnwritable, blocks*size, minRoom)
	}
	return nil
}
