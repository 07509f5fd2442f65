package confine

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Hidden are directories that only those see who are in their mount namespace. They are
// memory, and gone when nobody is in that and they are closed.
type Hidden struct {
	Namespace   *os.File
	Directories []*os.File
}

// Close gives them up.
func (h *Hidden) Close() {
	for _, d := range h.Directories {
		d.Close() // it is memory
	}
	if h.Namespace != nil {
		h.Namespace.Close()
	}
}

// hiddenSize bounds what is in such a directory.
const hiddenSize = "1m"

// Hide makes directories that are empty at first, in the place of those that are there, for
// programs that look for their files nowhere else. It takes CAP_SYS_ADMIN.
func Hide(dirs ...string) (h *Hidden, err error) {
	h = &Hidden{}
	done := make(chan struct{})
	go onThread(func() {
		defer close(done)
		err = h.hide(dirs)
	})
	if <-done; err != nil {
		h.Close()
		return nil, fmt.Errorf("cannot make directories in place of %q that nobody else sees: %w", dirs, err)
	}
	return h, nil
}

// hide does it on a thread that has nothing more to do.
func (h *Hidden) hide(dirs []string) (err error) {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return err
	}
	for _, dir := range dirs {
		if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700,size="+hiddenSize); err != nil {
			return err
		}
		d, err := os.Open(dir)
		if err != nil {
			return err
		}
		h.Directories = append(h.Directories, d)
	}
	h.Namespace, err = os.Open("/proc/thread-self/ns/mnt")
	return err
}
