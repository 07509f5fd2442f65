// Package testenv gives tests what they need of their surroundings, or skips
// them. It is the only place where a test is skipped. A skip is allowed on a
// developer's machine only: with NoSkip set in the environment, as in CI, what
// is missing is a failure, unless MayLack names it.
package testenv

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Names of environment variables.
const (
	NoSkip  = "STORAGED_TEST_NO_SKIP"  // not empty: skips are failures
	MayLack = "STORAGED_TEST_MAY_LACK" // but not for these needs, separated by commas
)

// Need skips the test, or fails it, unless it has what it needs.
func Need(t testing.TB, what string, have bool) {
	t.Helper()
	switch {
	case have:
	case os.Getenv(NoSkip) != "" && !slices.Contains(strings.Split(os.Getenv(MayLack), ","), what):
		t.Fatalf("needs %s, and %s is set", what, NoSkip)
	default:
		t.Skipf("needs %s", what)
	}
}

// Root needs the test to run as root.
func Root(t testing.TB) {
	t.Helper()
	Need(t, "root", os.Geteuid() == 0)
}

// AsUser runs f in a thread whose effective uid is another one: what it connects to takes
// it for that user. It needs root.
func AsUser(t testing.TB, uid int, f func()) {
	t.Helper()
	Root(t)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	set := func(uid uintptr) {
		// The system call itself, because the library's sets all threads.
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), uid, ^uintptr(0)); errno != 0 {
			t.Fatal(errno)
		}
	}
	set(uintptr(uid))
	defer set(0)
	f()
}

// Loop needs the test to be able to make loop devices.
func Loop(t testing.TB) {
	t.Helper()
	Root(t)
	_, err := os.Stat("/dev/loop-control")
	Need(t, "loop devices", err == nil)
}

// Kernel needs the kernel to have a file system, as built in or as a module that
// is loaded (filesystems(5)).
func Kernel(t testing.TB, fileSystem string) {
	t.Helper()
	known, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		t.Fatal(err)
	}
	Need(t, "the file system "+fileSystem+" in the kernel", slices.Contains(strings.Fields(string(known)), fileSystem))
}

// Tool needs a program and gives its absolute path.
func Tool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	for _, dir := range []string{"/usr/sbin", "/sbin"} { // not in every user's PATH
		if err != nil {
			path, err = exec.LookPath(filepath.Join(dir, name))
		}
	}
	Need(t, "the program "+name, err == nil)
	return path
}

// loopBytes is the size of a file system in a file: xfs wants 300 MiB. The
// file is sparse.
const loopBytes = 320 << 20

// mkfs are the file systems of Mount and how to make each, quietly.
var mkfs = map[string][]string{
	"ext4":  {"mkfs.ext4", "-q", "-F"},
	"xfs":   {"mkfs.xfs", "-q", "-f"},
	"btrfs": {"mkfs.btrfs", "-q", "-f"},
	"ext2":  {"mkfs.ext2", "-q", "-F"},
	"vfat":  {"mkfs.vfat"},
	"tmpfs": nil,
}

// Mount makes a new file system of the kind, mounts it on a directory of its
// own for the time of the test and gives that directory. It needs root.
func Mount(t testing.TB, kind string) string {
	t.Helper()
	Root(t)
	dir := filepath.Join(t.TempDir(), kind)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	image := Image(t, kind)
	MountImage(t, image, dir)
	t.Cleanup(func() { Unmount(t, dir) })
	return dir
}

// MountImage mounts on dir what Image gave. It needs root.
func MountImage(t testing.TB, image, dir string) {
	t.Helper()
	Root(t)
	if image == "" {
		run(t, "mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%d", loopBytes), "storaged-test", dir)
		return
	}
	Loop(t)
	run(t, "mount", "-o", "loop", image, dir)
}

// Overlay mounts an overlay for the time of the test, with its lower layer in one directory
// and the upper one in another, which both stay, and gives where. It needs root.
func Overlay(t testing.TB, lower, upper string) string {
	t.Helper()
	Root(t)
	Kernel(t, "overlay")
	dir := filepath.Join(t.TempDir(), "overlay")
	layers := filepath.Join(upper, "layers")
	for _, d := range []string{dir, filepath.Join(layers, "upper"), filepath.Join(layers, "work")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%[2]s/work", lower, layers)
	if err := unix.Mount("storaged-test", dir, "overlay", 0, options); err != nil {
		t.Fatalf("cannot mount an overlay: %v", err)
	}
	t.Cleanup(func() { Unmount(t, dir) })
	return dir
}

// Failing mounts an ext2 file system that says it is much larger than what
// lies below it: it takes any number of bytes, and the fsync of more than some
// 20 MiB is an I/O error. It needs root.
func Failing(t testing.TB) string {
	t.Helper()
	below := Mount(t, "tmpfs")
	dir := filepath.Join(t.TempDir(), "failing")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := imageIn(t, below, mkfs["ext2"])
	ballast, err := os.Create(filepath.Join(below, "ballast"))
	if err != nil {
		t.Fatal(err)
	}
	defer ballast.Close() // what it holds does not matter
	if err := syscall.Fallocate(int(ballast.Fd()), 0, 0, loopBytes-thinBytes); err != nil {
		t.Fatal(err)
	}
	run(t, "mount", "-o", "loop", path, dir)
	t.Cleanup(func() { Unmount(t, dir) })
	return dir
}

// Requests of ioctl(2) that stop and permit writing to a file system, fs.h.
const (
	fiFreeze = 0xc0045877
	fiThaw   = 0xc0045878
)

// Freeze has whoever writes to the file system wait in the kernel, until the
// test ends or calls thaw. It needs root.
func Freeze(t testing.TB, dir string) (thaw func()) {
	t.Helper()
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetInt(int(root.Fd()), fiFreeze, 0); err != nil {
		t.Fatalf("cannot freeze %s: %v", dir, err)
	}
	thaw = sync.OnceFunc(func() {
		defer root.Close()
		if err := unix.IoctlSetInt(int(root.Fd()), fiThaw, 0); err != nil {
			t.Errorf("cannot thaw %s: %v", dir, err)
		}
	})
	t.Cleanup(thaw)
	return thaw
}

// Silent mounts a file system that answers nobody, as that of a server which is
// away: whoever looks at it waits until the test ends. It needs root.
func Silent(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "silent")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	SilentOn(t, dir)
	return dir
}

// SilentOn is Silent on a directory or a file that there is. wake has those
// that wait fail before the test ends.
func SilentOn(t testing.TB, path string) (wake func()) {
	t.Helper()
	Root(t)
	server, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	Need(t, "FUSE", err == nil)
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	options := fmt.Sprintf("fd=%d,rootmode=%o,user_id=0,group_id=0", server.Fd(), st.Mode&unix.S_IFMT)
	if err := unix.Mount("storaged-test", path, "fuse", 0, options); err != nil {
		t.Fatalf("cannot mount a file system of FUSE: %v", err)
	}
	wake = sync.OnceFunc(func() {
		err := unix.Unmount(path, unix.MNT_DETACH)
		if err := errors.Join(err, server.Close()); err != nil { // which lets go whoever waits
			t.Errorf("cannot take the file system away: %v", err)
		}
	})
	t.Cleanup(wake)
	return wake
}

// unmountPatience bounds the wait for a file system to be let go.
const unmountPatience = 3 * time.Minute

// Unmount unmounts a file system as soon as nobody is in it: a loop device lets
// go of its file some time after it was unmounted itself.
func Unmount(t testing.TB, dir string) {
	t.Helper()
	patiently(t, "unmount "+dir, func() error { return syscall.Unmount(dir, 0) })
}

// patiently tries what is refused with EBUSY until it is not.
func patiently(t testing.TB, what string, try func() error) {
	t.Helper()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for begun := time.Now(); ; <-again.C {
		err := try()
		if err == nil {
			return
		}
		if err != syscall.EBUSY || time.Since(begun) > unmountPatience {
			t.Errorf("cannot %s: %v", what, err)
			return
		}
	}
}

// thinBytes is what a failing file system has below it, its own tables
// included.
const thinBytes = 20 << 20

// Image makes a new file system of the kind in a file and gives its path; "" for
// tmpfs, which is a new one whenever it is mounted.
func Image(t testing.TB, kind string) string {
	t.Helper()
	command, known := mkfs[kind]
	switch {
	case !known:
		t.Fatalf("internal error: no way to make a %s", kind)
	case command == nil:
		return ""
	}
	return imageIn(t, t.TempDir(), command)
}

func imageIn(t testing.TB, dir string, command []string) string {
	t.Helper()
	mk := Tool(t, command[0])
	path := filepath.Join(dir, "image")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(loopBytes); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	run(t, mk, append(command[1:len(command):len(command)], path)...)
	return path
}

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
}

// Heeded has the processes that the test starts from here on take a signal as they do by
// themselves, also where the test ignores it (nohup(1)): what is ignored is inherited.
func Heeded(t testing.TB, s os.Signal) {
	t.Helper()
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, s)
	t.Cleanup(func() { signal.Stop(caught) })
}
