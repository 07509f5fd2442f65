package image

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"storaged/internal/procfs"
)

// The kernel has files open too, and takes none of QEMU's locks: those behind
// loop devices, swap files, and what it exports as disks to others.

// kernel is where it tells of that.
type kernel struct {
	sys, proc, dev string
	asker          int // pid of the process for which a scout asks; 0: this one asks for itself
}

var here = kernel{sys: "/sys", proc: "/proc", dev: "/dev"}

// user is what has a file open.
type user struct {
	Name    string // for people
	Writes  bool
	Program bool   // it is no part of the kernel
	Leaving bool   // it may let go of the file by itself, soon
	Looks   bool   // it is udev, which lets go of a device when it has looked at it
	Release string // how to have it let go of the file
}

// Unused fails with an *InUseError if anybody beside this process has f's file open,
// the kernel itself too. Whoever is about to take a file from its name asks again:
// nothing keeps it from being attached to a loop device under the locks of a writer.
func Unused(f *os.File) error {
	return here.refuse(f, unix.F_WRLCK, func(user) bool { return true })
}

// unwritten is Unused, but lets in who only reads. A loop device knows the size
// that the file had when it was attached, so that growth does not concern one
// that reads. One that writes keeps growth away, as a virtual machine that
// writes does: the size may be given to it (losetup --set-capacity) before a
// growth that failed takes it back.
func unwritten(f *os.File) error {
	kind, err := leaseOf(f)
	if err != nil {
		return err
	}
	return here.refuse(f, kind, func(u user) bool { return u.Writes })
}

// unattached is unwritten, but lets in programs that take no locks.
func unattached(f *os.File) error {
	return here.refuse(f, unix.F_RDLCK, func(u user) bool { return u.Writes && !u.Program })
}

// leaseOf is the lease that tells most of others: that nobody writes can only be
// known through a file that is not open for writing itself.
func leaseOf(f *os.File) (kind int, err error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	var flags int
	var bad error
	err = conn.Control(func(fd uintptr) { flags, bad = unix.FcntlInt(fd, unix.F_GETFL, 0) })
	if kind = unix.F_WRLCK; flags&unix.O_ACCMODE == unix.O_RDONLY {
		kind = unix.F_RDLCK
	}
	return kind, errors.Join(err, bad)
}

// refuse fails if a user of the file is one of those. One that is letting go
// (umount gives loop devices back a little after it has returned, QEMU a file whose
// locks it does not get) gets the time of a passer-by, and who only looks more.
func (k kernel) refuse(f *os.File, kind int, those func(user) bool) error {
	tick := time.NewTicker(passerBy / 100)
	defer tick.Stop()
	for since := time.Now(); ; <-tick.C {
		users, err := k.openers(f, kind)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(users, those)
		if i < 0 {
			return nil
		}
		if u := users[i]; time.Since(since) >= u.patience() {
			return &InUseError{Holder: u.Name, Release: u.Release}
		}
	}
}

// patience is how long it is waited for.
func (u user) patience() time.Duration {
	switch {
	case !u.Leaving:
		return 0
	case u.Looks:
		return procfs.LookingTime
	}
	return passerBy
}

// fileID is how a file is known, whatever its names are.
type fileID struct{ dev, ino uint64 }

// device is its file system as mountinfo has it.
func (id fileID) device() string { return fmt.Sprintf("%d:%d", unix.Major(id.dev), unix.Minor(id.dev)) }

func idOf(f *os.File) (fileID, error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return fileID{}, err
	}
	var st unix.Stat_t
	var bad error
	err = conn.Control(func(fd uintptr) { bad = unix.Fstat(int(fd), &st) })
	if err = errors.Join(err, bad); err != nil {
		return fileID{}, fmt.Errorf("cannot look at the image: %w", err)
	}
	return fileID{st.Dev, st.Ino}, nil
}

func (k kernel) users(id fileID) []user {
	mounts := k.mounts()
	return slices.Concat(k.loops(id, mounts), k.swaps(id, mounts), k.exports(id, mounts))
}

// loops are the loop devices that stand on the file.
func (k kernel) loops(id fileID, mounts mounts) (users []user) {
	devices, _ := os.ReadDir(filepath.Join(k.sys, "block")) // there is none where there are no disks
	for _, d := range devices {
		name := d.Name()
		if !strings.HasPrefix(name, "loop") {
			continue
		}
		flags, ok := k.loop(name, filepath.Join(k.sys, "block", name, "loop/backing_file"), id, mounts)
		if !ok {
			continue
		}
		u := user{
			Name: "loop device /dev/" + name, Writes: flags&unix.LO_FLAGS_READ_ONLY == 0,
			Release: "losetup --detach /dev/" + name,
		}
		if uses := k.uses(name, mounts); uses != "" {
			u.Name += ", " + uses
			u.Release = "stop what uses the device, then " + u.Release
		} else {
			u.Leaving = flags&unix.LO_FLAGS_AUTOCLEAR != 0
		}
		users = append(users, u)
	}
	return users
}

// loop tells whether a loop device stands on the file, and its flags. The name
// that the kernel has for its file is no proof: it may be one of another mount
// namespace, or belong to another file by now. So the device is asked, and only
// who may not do that goes by the name.
func (k kernel) loop(name, backing string, id fileID, mounts mounts) (flags uint32, ok bool) {
	path := line(backing)
	if path == "" || mounts.silent(path, id) {
		return 0, false
	}
	f, err := os.OpenFile(filepath.Join(k.dev, name), os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		if line(filepath.Join(k.sys, "block", name, "ro")) == "1" {
			flags = unix.LO_FLAGS_READ_ONLY
		}
		return flags, leadsTo(path, id)
	}
	defer f.Close()
	info, err := unix.IoctlLoopGetStatus64(int(f.Fd()))
	if err != nil {
		return 0, false // it has let go just now
	}
	return info.Flags, fileID{info.Device, info.Inode} == id
}

// leadsTo tells whether a path is one of the file.
func leadsTo(path string, id fileID) bool {
	var st unix.Stat_t
	return unix.Stat(path, &st) == nil && fileID{st.Dev, st.Ino} == id
}

// swaps are the swap files that are the file.
func (k kernel) swaps(id fileID, mounts mounts) (users []user) {
	for _, path := range k.swapping() {
		if !mounts.silent(path, id) && leadsTo(path, id) {
			users = append(users, user{Name: "the kernel as swap space", Writes: true, Release: "swapoff " + path})
		}
	}
	return users
}

// swapping lists what the kernel swaps to.
func (k kernel) swapping() (paths []string) {
	for _, l := range lines(filepath.Join(k.proc, "swaps")) {
		if path := strings.Fields(l)[0]; filepath.IsAbs(path) {
			paths = append(paths, procfs.Unescape(path))
		}
	}
	return paths
}

// exporters are parts of the kernel that make disks of files for others, and
// where each has the path of the file.
var exporters = []struct{ name, pattern string }{
	{"a SCSI target", "kernel/config/target/core/fileio_*/*/udev_path"},
	{"an NVMe target", "kernel/config/nvmet/subsystems/*/namespaces/*/device_path"},
	{"a USB gadget", "kernel/config/usb_gadget/*/functions/mass_storage.*/lun.*/file"},
}

// exports are those who make a disk of the file.
func (k kernel) exports(id fileID, mounts mounts) (users []user) {
	for _, e := range exporters {
		for _, at := range glob(k.sys, e.pattern) {
			path := line(at)
			if filepath.IsAbs(path) && !mounts.silent(path, id) && leadsTo(path, id) {
				users = append(users, user{Name: fmt.Sprintf("%s (%s)", e.name, filepath.Dir(at)), Writes: true})
			}
		}
	}
	return users
}

// maxUses bounds how many uses of a device are told.
const maxUses = 4

// uses says what a loop device is used for, its partitions and what stands on
// them included, as far as that can be seen from here; "" for nothing.
func (k kernel) uses(name string, mounts mounts) string {
	var all []string
	swaps := k.swapping()
	for _, path := range k.upon(filepath.Join(k.sys, "block", name), maxStack) {
		device, number := filepath.Base(path), line(filepath.Join(path, "dev"))
		who := ""
		if device != name {
			who = "/dev/" + device + " "
		}
		for _, m := range mounts {
			if m.Device == number || m.Source == "/dev/"+device {
				all = append(all, who+"mounted at "+strconv.Quote(m.Point))
			}
		}
		if slices.Contains(swaps, "/dev/"+device) {
			all = append(all, who+"used as swap space")
		}
		if holders := glob(path, "holders/*"); len(holders) > 0 {
			all = append(all, who+"used by /dev/"+filepath.Base(holders[0]))
		}
	}
	if more := len(all) - maxUses; more > 0 {
		all = append(all[:maxUses], fmt.Sprintf("and %d more", more))
	}
	return strings.Join(all, ", ")
}

// maxStack bounds how deep devices lie upon each other.
const maxStack = 16

// upon lists a device, its partitions and what is mapped onto them, as
// directories of sysfs.
func (k kernel) upon(device string, depth int) []string {
	all := []string{device}
	if depth == 0 {
		return all
	}
	for _, part := range glob(device, "*/partition") {
		all = append(all, k.upon(filepath.Dir(part), depth-1)...)
	}
	for _, holder := range glob(device, "holders/*") {
		all = append(all, k.upon(filepath.Join(k.sys, "block", filepath.Base(holder)), depth-1)...)
	}
	return all
}

type mounts []procfs.Mount

func (k kernel) mounts() mounts {
	return slices.Collect(procfs.Mounts(filepath.Join(k.proc, "self/mountinfo")))
}

// silent reports whether a path leads to a file system that another program or
// host answers for, and that is not the one of the file: who asks for anything
// there may wait for ever, and nobody would touch a volume because of a server
// that is dead.
func (m mounts) silent(path string, id fileID) bool {
	var on procfs.Mount
	for _, c := range m {
		if len(c.Point) >= len(on.Point) && below(path, c.Point) {
			on = c // the last one covers those before
		}
	}
	return on.Device != id.device() && on.Answered()
}

// remote reports whether a file is on such a file system. What the kernel knows of
// who has it open is not all there is, or none of it.
func (m mounts) remote(id fileID) bool {
	return slices.ContainsFunc(m, func(on procfs.Mount) bool { return on.Device == id.device() && on.Answered() })
}

func below(path, dir string) bool {
	return path == dir || dir == "/" || strings.HasPrefix(path, dir+"/")
}

// glob is filepath.Glob below a directory, which has no pattern in it.
func glob(dir, pattern string) []string {
	paths, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		panic("internal error: " + err.Error()) // the patterns are constant
	}
	return paths
}

// line is the one line that a file of the kernel has, "" without one.
func line(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(string(b), "\n")
}

// lines are those of a file of the kernel, none without one.
func lines(path string) (all []string) {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	for in := bufio.NewScanner(f); in.Scan(); {
		if in.Text() != "" {
			all = append(all, in.Text())
		}
	}
	return all
}
