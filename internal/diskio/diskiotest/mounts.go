package diskiotest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"storaged/internal/testenv"
)

// Run runs a tool, which the test needs, and gives what it says.
func Run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(testenv.Tool(t, name), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// LoopDevice attaches a file to a loop device until the test ends.
func LoopDevice(t testing.TB, backing string, options ...string) string {
	t.Helper()
	testenv.Root(t)
	dev := Run(t, "losetup", append(append([]string{"--find", "--show"}, options...), backing)...)
	t.Cleanup(func() { Run(t, "losetup", "--detach", dev) })
	return dev
}

// MountLoop makes a file system of that type and size in a sparse image and
// mounts it until the test ends.
func MountLoop(t testing.TB, fstype string, size int64, mkfs ...string) string {
	t.Helper()
	testenv.Root(t)
	base := t.TempDir()
	image := filepath.Join(base, "image")
	Sparse(t, image, size)
	Run(t, "mkfs."+fstype, append(append([]string{"-q"}, mkfs...), image)...)
	return MountAt(t, base, "-t", fstype, LoopDevice(t, image))
}

// MountTmpfs mounts a tmpfs of that size until the test ends.
func MountTmpfs(t testing.TB, size int64) string {
	t.Helper()
	testenv.Root(t)
	return MountAt(t, t.TempDir(), "-t", "tmpfs", "-o", fmt.Sprintf("size=%d", size), "tmpfs")
}

// MountAt mounts below base what mount(8) is given, until the test ends.
func MountAt(t testing.TB, base string, args ...string) string {
	t.Helper()
	dir := filepath.Join(base, "mnt")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	Run(t, "mount", append(args, dir)...)
	t.Cleanup(func() { testenv.Unmount(t, dir) })
	return dir
}

// Sparse makes a file of one hole.
func Sparse(t testing.TB, path string, size int64) {
	t.Helper()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
}

// OnEachFS runs a test on every file system at hand.
func OnEachFS(t *testing.T, test func(t *testing.T, dir string)) {
	t.Run("here", func(t *testing.T) { test(t, t.TempDir()) })
	for _, kind := range []string{"ext4", "xfs", "btrfs", "tmpfs"} {
		t.Run(kind, func(t *testing.T) { test(t, testenv.Mount(t, kind)) })
	}
}
