package testenv

import (
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// Attach attaches a file to a loop device, with options of losetup(8), until
// the end of the test or detach. It needs root.
func Attach(t testing.TB, file string, options ...string) (device string, detach func()) {
	t.Helper()
	Loop(t)
	out, err := exec.Command(Tool(t, "losetup"), append(options, "--find", "--show", file)...).CombinedOutput()
	if err != nil {
		t.Fatalf("losetup: %v\n%s", err, out)
	}
	device = strings.TrimSpace(string(out))
	detach = sync.OnceFunc(func() {
		if out, err := exec.Command("losetup", "--detach", device).CombinedOutput(); err != nil {
			t.Errorf("losetup: %v\n%s", err, out)
		}
	})
	t.Cleanup(detach)
	return device, detach
}

// Formatted makes a file a new file system of that kind; it has its size
// already.
func Formatted(t testing.TB, file, kind string) {
	t.Helper()
	command := mkfs[kind]
	run(t, Tool(t, command[0]), append(command[1:len(command):len(command)], file)...)
}

// MountedFrom mounts a file or a device on a directory of its own until the end
// of the test or unmount, and gives that directory. After unmount a device is nobody's.
// It needs root.
func MountedFrom(t testing.TB, source string) (dir string, unmount func()) {
	t.Helper()
	Loop(t)
	dir = t.TempDir()
	run(t, "mount", source, dir)
	unmount = sync.OnceFunc(func() {
		Unmount(t, dir)
		patiently(t, "have "+source+" alone", func() error { return alone(source) })
	})
	t.Cleanup(unmount)
	return dir, unmount
}

// alone is EBUSY while somebody has a device mounted: processes that others have started
// in the meantime may have the mount in a namespace of their own. O_EXCL without O_CREAT is
// for devices alone (open(2)).
func alone(source string) error {
	st, err := os.Stat(source)
	if err != nil || st.Mode().Type() != os.ModeDevice {
		return err
	}
	fd, err := unix.Open(source, unix.O_RDONLY|unix.O_EXCL|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}
