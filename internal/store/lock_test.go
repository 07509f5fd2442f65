package store

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// hold takes the lock of dir in the name of a process.
func hold(t *testing.T, dir string, pid int) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, lockName))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if _, err := fmt.Fprintln(f, pid); err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestLockThatAKilledDaemonLeftWithItsChildIsWaitedFor(t *testing.T) {
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	held := hold(t, dir, gone.Process.Pid)
	time.AfterFunc(100*time.Millisecond, func() { held.Close() }) // as execve would
	lock, err := LockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	lock.Close()
}

// What such a child has of the database it loses last.
func TestDatabaseThatAChildHasAMomentLongerIsWaitedFor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "storaged.db")
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	child, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(child.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(20*orphanPoll, func() { child.Close() })
	if s, err = Open(path); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestLockOfALivingDaemonIsRefusedAtOnce(t *testing.T) {
	dir := t.TempDir()
	hold(t, dir, os.Getppid())
	begun := time.Now()
	_, err := LockDir(dir)
	var locked *LockedError
	if !errors.As(err, &locked) || locked.PID != os.Getppid() || time.Since(begun) > orphanTimeout/2 {
		t.Errorf("after %v: %v", time.Since(begun), err)
	}
}
