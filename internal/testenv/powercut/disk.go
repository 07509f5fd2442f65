// Package powercut gives tests a disk whose power can be cut: a file system on
// a loop device on a disk with a volatile write cache, which is a file served
// by FUSE. What was not flushed when the power goes is lost, or kept in part,
// sector by sector, by a seed.
package powercut

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"storaged/internal/testenv"
)

// patience bounds the waits for the kernel to let go of a dead disk: far more
// than it takes on a slow machine.
const patience = 60 * time.Second

// checks are the file systems there are and what finds their faults, each
// without changing anything.
var checks = map[string][]string{
	"ext4":  {"e2fsck", "-f", "-n"},
	"xfs":   {"xfs_repair", "-n"},
	"btrfs": {"btrfs", "check", "--readonly"},
}

// Disk is a disk with a file system. Its methods end the test when they fail.
type Disk struct {
	Dir string // where the file system is mounted while the power is on

	t      testing.TB
	kind   string
	image  string
	fuse   string // where the disk is a file
	server *exec.Cmd
	orders io.WriteCloser
	says   *bufio.Reader
}

// New makes a file system of the kind (ext4, xfs, btrfs) on a disk that is
// switched on. Nothing of it is left after the test, if every process that the
// test started on it has ended.
func New(t testing.TB, kind string) *Disk {
	t.Helper()
	testenv.Loop(t)
	_, err := os.Stat("/dev/fuse")
	testenv.Need(t, "FUSE", err == nil)
	testenv.Tool(t, checks[kind][0])
	top := t.TempDir()
	d := &Disk{t: t, kind: kind, image: testenv.Image(t, kind), Dir: filepath.Join(top, "mnt"), fuse: filepath.Join(top, "fuse")}
	for _, dir := range []string{d.Dir, d.fuse} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(d.off)
	d.on()
	return d
}

// on switches the disk on and mounts its file system.
func (d *Disk) on() {
	d.t.Helper()
	self, err := os.Executable()
	if err != nil {
		d.t.Fatal(err)
	}
	d.server = exec.Command(self)
	d.server.Env = append(os.Environ(), fmt.Sprintf("%s=%q %q %q", servedFrom, d.image, d.fuse, d.Dir))
	d.server.Stderr = os.Stderr
	d.orders = must(d.server.StdinPipe())(d.t)
	d.says = bufio.NewReader(must(d.server.StdoutPipe())(d.t))
	if err := d.server.Start(); err != nil {
		d.server = nil
		d.t.Fatal(err)
	}
	if line, err := d.says.ReadString('\n'); line != "ready\n" {
		d.t.Fatalf("the disk says %q: %v", line, err)
	}
	d.run("mount", "-o", "loop", filepath.Join(d.fuse, diskName), d.Dir)
}

// Cut cuts the power. Whoever uses the file system waits until Restore, and
// must be killed before.
func (d *Disk) Cut(how Cut) (loss Loss) {
	d.t.Helper()
	if err := json.NewEncoder(d.orders).Encode(how); err != nil {
		d.t.Fatal(err)
	}
	line, err := d.says.ReadString('\n')
	if err == nil {
		_, err = fmt.Sscan(line, &loss.Pending, &loss.Kept)
	}
	if err != nil {
		d.t.Fatalf("the disk says %q: %v", line, err)
	}
	return loss
}

// Restore brings the disk back after a cut: the kernel recovers the file
// system, which must be without faults then. ended is called when those who
// waited have got their errors; it returns when no process uses the file
// system any more.
func (d *Disk) Restore(ended func()) {
	d.t.Helper()
	d.kill()
	ended()
	d.unmount()
	d.run("mount", "-o", "loop", d.image, d.Dir)
	d.await("unmount the recovered file system", func() error { return unix.Unmount(d.Dir, 0) })
	d.await("let go of the recovered file system", d.looped)
	check := checks[d.kind]
	d.run(testenv.Tool(d.t, check[0]), append(check[1:len(check):len(check)], d.image)...)
	d.on()
}

func (d *Disk) kill() {
	if d.server == nil {
		return
	}
	_ = d.server.Process.Kill() // it may have ended
	_ = d.server.Wait()         // says that it was killed
	d.server = nil
}

// unmount returns when the kernel has let go of the dead disk: of its file
// system, of the loop device, and of the file that this was on.
func (d *Disk) unmount() {
	d.t.Helper()
	for _, dir := range []string{d.Dir, d.fuse} {
		d.await("unmount "+dir, func() error { return unix.Unmount(dir, 0) })
	}
}

// looped is EBUSY while a loop device is on the image. One that a mount has made goes when
// the file system is gone for good: processes that others have started in the meantime may
// have its mount in a namespace of their own.
func (d *Disk) looped() error {
	files, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && strings.TrimSpace(string(b)) == d.image {
			return unix.EBUSY
		}
	}
	return err
}

// off is the end, in whatever state the test has left the disk.
func (d *Disk) off() {
	d.t.Helper()
	if d.server == nil {
		detach(d.Dir, d.fuse) // the test failed in Restore
		return
	}
	if !d.t.Failed() {
		d.await("unmount "+d.Dir, func() error { return unix.Unmount(d.Dir, 0) })
		d.await("unmount "+d.fuse, func() error { return unix.Unmount(d.fuse, 0) })
	}
	d.kill()
	detach(d.Dir, d.fuse)
}

// await tries again and again while something is busy.
func (d *Disk) await(what string, try func() error) {
	d.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); ; <-tick.C {
		err := try()
		if err == nil {
			return
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(end) {
			d.t.Fatalf("cannot %s: %v", what, err)
		}
	}
}

func (d *Disk) run(name string, args ...string) {
	d.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		d.t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
}

// must gives a function that ends the test if there is an error.
func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
