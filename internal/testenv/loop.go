package testenv

import (
	"os/exec"
	"strings"
	"sync"
	"testing"
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
// of the test or unmount, and gives that directory. It needs root.
func MountedFrom(t testing.TB, source string) (dir string, unmount func()) {
	t.Helper()
	Loop(t)
	dir = t.TempDir()
	run(t, "mount", source, dir)
	unmount = sync.OnceFunc(func() { Unmount(t, dir) })
	t.Cleanup(unmount)
	return dir, unmount
}
