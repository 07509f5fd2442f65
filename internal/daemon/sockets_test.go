package daemon

import (
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"storaged/internal/record"
)

func TestSocketIsNobodyElsesBeforeItHasItsMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	private := net.ListenConfig{Control: ownerOnly}
	l, err := private.Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if st, err := os.Stat(path); err != nil || st.Mode().Perm()&0o077 != 0 {
		t.Errorf("between bind and chmod its mode is %v (%v)", st.Mode(), err)
	}
}

func TestListeningLeavesTheModesOfOtherFilesAlone(t *testing.T) {
	dir := t.TempDir()
	before := unix.Umask(0o022)
	defer unix.Umask(before)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			made := filepath.Join(dir, "made")
			if err := os.Mkdir(made, 0o700); err != nil {
				t.Error(err)
				return
			}
			if st, err := os.Stat(made); err != nil || st.Mode().Perm() != 0o700 {
				t.Errorf("a directory made meanwhile has mode %v (%v)", st.Mode(), err)
				return
			}
			if err := os.Remove(made); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	for range 200 {
		l, err := listenAt(filepath.Join(dir, "s"), 0o660)
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
	}
	close(stop)
	<-done
}

// A host may have no list of groups: a group that nobody asked for is not missed there.
func TestGroupThatCannotBeLookedUp(t *testing.T) {
	var unread error = &fs.PathError{Op: "open", Path: "/etc/group", Err: fs.ErrNotExist}
	for _, cause := range []error{user.UnknownGroupError("storaged"), unread} {
		c := DefaultConfig()
		if err := c.Load("/nonexistent", false); err != nil {
			t.Fatal(err)
		}
		if err := c.groupless(cause); err != nil {
			t.Errorf("nobody asked for a group: %v", err)
		}
		c.Given("group", "the test")
		err := c.groupless(cause)
		if record.CodeOf(err) != record.Invalid {
			t.Errorf("somebody asked for a group, and %v: %v", cause, err)
		}
		if cause == unread && !strings.Contains(err.Error(), unread.Error()) {
			t.Errorf("the cause is not said: %v", err)
		}
	}
}
