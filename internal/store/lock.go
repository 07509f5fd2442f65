package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// lockName is the file in a directory whose flock says that a daemon is at work
// there. It holds the daemon's pid, for messages only.
const lockName = "lock"

// LockDir takes the lock of a daemon's directory, which lasts until the file is
// closed or the process is gone. One that another has is a *LockedError. The
// file is never removed: a lock on a name that others may unlink is none.
func LockDir(dir string) (*os.File, error) {
	path := filepath.Join(dir, lockName)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := takeLock(f); err != nil {
		defer f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, &LockedError{Path: path, PID: readPID(f)}
		}
		return nil, fmt.Errorf("cannot lock %q: %w", path, err)
	}
	if err := writePID(f); err != nil {
		f.Close() // the other error says more
		return nil, fmt.Errorf("cannot write %q: %w", path, err)
	}
	return f, nil
}

const (
	// orphanTimeout bounds the wait for a lock whose owner is dead, or is this
	// process, which may have closed it: a process that was being started at
	// that moment has the lock too, and loses it at its execve(2), milliseconds
	// later.
	orphanTimeout = 2 * time.Second
	orphanPoll    = 5 * time.Millisecond // flock(2) has no timeout of its own
)

// takeLock locks f, or gives EWOULDBLOCK at once where a living daemon has it.
func takeLock(f *os.File) error {
	again := time.NewTicker(orphanPoll)
	defer again.Stop()
	for end := time.Now().Add(orphanTimeout); ; <-again.C {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) || !orphaned(readPID(f)) || time.Now().After(end) {
			return err
		}
	}
}

func orphaned(pid int) bool {
	return pid == os.Getpid() || pid > 0 && errors.Is(unix.Kill(pid, 0), unix.ESRCH)
}

func writePID(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

// readPID gives the pid in the lock file, 0 if there is none yet.
func readPID(f *os.File) int {
	b := make([]byte, 32)
	n, _ := f.ReadAt(b, 0) // a short read is the rule; an empty one gives 0
	pid, err := strconv.Atoi(strings.TrimSpace(string(b[:n])))
	if err != nil || pid < 0 {
		return 0
	}
	return pid
}
