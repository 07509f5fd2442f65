package daemon

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"storaged/internal/record"
)

// Names in libvirt's run directory: the sockets at which its clients look for its daemon
// for storage, and the file that its storage driver has locked wherever it runs.
const (
	virtstoraged   = "virtstoraged-sock"
	virtstoragedRO = "virtstoraged-sock-ro"
	driverLock     = "storage/driver.pid"
)

// driver is libvirt's storage driver as far as others can have it: a locked file.
type driver struct{ file *os.File }

// claimDriver takes the place of libvirt's storage driver, so that none of its daemons
// manages the same pools. It is refused while one does.
func claimDriver(runDir string) (io.Closer, error) {
	path := filepath.Join(runDir, driverLock)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, denied(fmt.Errorf("cannot take the place of libvirt's storage driver: %w", err))
	}
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			return nil, denied(fmt.Errorf("cannot take the place of libvirt's storage driver: %w", err))
		}
		// The byte that libvirt locks (virPidFileAcquirePath); the two kinds of locks of
		// fcntl(2) exclude each other.
		err = unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Len: 1})
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
			err = driverTaken(f)
		}
		if err == nil && sameFile(f, path) {
			return driver{f}, note(f, os.Getpid())
		}
		f.Close()
		if err != nil {
			return nil, err
		}
	}
}

// note writes who has the file locked.
func note(f *os.File, pid int) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt([]byte(strconv.Itoa(pid)), 0)
	return err
}

// sameFile reports whether a file has its name still: who leaves removes it.
func sameFile(f *os.File, path string) bool {
	is, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(path)
	return err == nil && os.SameFile(is, named)
}

func driverTaken(f *os.File) error {
	who, err := io.ReadAll(io.LimitReader(f, 32))
	if err != nil {
		return err
	}
	return record.Errorf(record.Busy, "libvirt's storage driver is at work in pid %s, which has %q locked", strings.TrimSpace(string(who)), f.Name()).
		WithHint("stop that daemon (libvirtd or virtstoraged) for good, or leave out takeover under [libvirt] in the settings")
}

// Close gives the place back.
func (d driver) Close() error { return errors.Join(os.Remove(d.file.Name()), d.file.Close()) }
