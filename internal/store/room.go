package store

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// minRoom is what a new job must find free, in bytes: its results and its log
// go there, and a helper that cannot save a result has to wait with it.
const minRoom = 1 << 20

// Room is why no new job should be recorded, although it could be: nil, or an
// error that wraps ErrUnwritable, where the file system is all but full.
func (s *Store) Room() error {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(s.lock.Fd()), &fs); err != nil {
		return nil // what cannot be told is found out by who writes
	}
	blocks := fs.Bavail
	if os.Geteuid() == 0 { // what is reserved is so for root
		blocks = fs.Bfree
	}
	if free := int64(blocks) * fs.Frsize; free < minRoom {
		return fmt.Errorf("%w: only %d bytes are free where it lies, and a job may need %d", ErrUnwritable, free, int64(minRoom))
	}
	return nil
}
