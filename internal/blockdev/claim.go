package blockdev

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"storaged/internal/procfs"
	"time"

	"golang.org/x/sys/unix"
)

// Node is an open block device.
type Node struct {
	*os.File        // for reading
	Path     string // its node in /dev, links followed
	Number   string // major:minor
	Size     int64  // bytes

	exclusive *os.File // that keeps others away who ask for that; nil: it was given up
}

// OpenNode opens a device to read it. Links on the way are followed. Who holds it open so
// keeps its number from becoming another device's.
func OpenNode(path string) (*Node, error) { return openNode(path, unix.O_RDONLY) }

func openNode(path string, flags int) (*Node, error) {
	resolved, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, err
	}
	// What is no device may block, and so is looked at first.
	var st unix.Stat_t
	if err := unix.Stat(resolved, &st); err != nil {
		return nil, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return nil, &os.PathError{Op: "open", Path: path, Err: unix.ENOTBLK}
	}
	f, err := os.OpenFile(resolved, flags|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	n := &Node{File: f, Path: resolved}
	if err := n.look(); err != nil {
		f.Close()
		return nil, err
	}
	return n, nil
}

// look reads what is open.
func (n *Node) look() error {
	var err error
	if n.Number, n.Size, err = describe(n.File); err != nil {
		return fmt.Errorf("cannot look at device %q: %w", n.Path, err)
	}
	return nil
}

// describe gives number and size of an open device.
func describe(f *os.File) (dev string, size int64, err error) {
	st, err := Statx(f)
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFBLK {
		err = unix.ENOTBLK
	}
	if err == nil {
		size, err = f.Seek(0, 2)
	}
	return number(st.Rdev_major, st.Rdev_minor), size, err
}

// Same fails unless the node at the path is still the open device, of the size that it
// had: what is done by the path from here on is done to it.
func (n *Node) Same() error {
	now, err := OpenNode(n.Path)
	if err != nil {
		return err
	}
	defer now.Close() // it was only looked at
	_, size, err := describe(n.File)
	if err == nil && (now.Number != n.Number || now.Size != n.Size || size != n.Size) {
		err = fmt.Errorf("device %q is another by now: it was %s of %d bytes, and is %s of %d", n.Path, n.Number, n.Size, now.Number, now.Size)
	}
	return err
}

// Overlaps reports whether another device is the same, or one is a partition of the other,
// or both are loop devices over the same part of a file or device. One that is not there
// overlaps nothing.
func (n *Node) Overlaps(path string) bool {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return false
	}
	dev := number(unix.Major(st.Rdev), unix.Minor(st.Rdev))
	d, ok := System.Device(n.Number)
	if !ok {
		return dev == n.Number
	}
	other, ok := System.Device(dev)
	return ok && System.placeOf(d).meets(System.placeOf(other))
}

// UsedError is a device that others use.
type UsedError struct {
	Path    string
	Holder  string // who, for people; "" where that is not known
	Release string // how to have it let go, "" where that is not known
}

func (e *UsedError) Error() string {
	if e.Holder == "" {
		return fmt.Sprintf("device %q is in use by somebody who is not seen from here", e.Path)
	}
	return fmt.Sprintf("device %q is in use by %s", e.Path, e.Holder)
}

// passingTime is how long somebody may have a device open who came by, and is not udev.
const passingTime = 2 * time.Second

// Patience bounds how long anybody waits for those to let go who do that in a moment.
func Patience(uses []Use) time.Duration {
	most := procfs.LookingTime
	for _, u := range uses {
		switch {
		case !u.Passing:
			return 0
		case !u.Looks:
			most = passingTime
		}
	}
	if len(uses) == 0 { // of somebody who is not seen
		return passingTime
	}
	return most
}

// Claim opens a device for somebody who is to destroy what it holds, so that nobody else
// gets it who asks the kernel for that. One that others use is a *UsedError, also where
// they did not ask.
func Claim(path string) (*Node, error) {
	n, err := OpenNode(path)
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(passingTime / 100)
	defer tick.Stop()
	for since := time.Now(); ; <-tick.C {
		uses, err := n.claim()
		if err == nil && len(uses) == 0 && n.exclusive != nil {
			return n, nil
		}
		if err != nil || time.Since(since) >= Patience(uses) {
			n.Close() // nothing was written
			return nil, cmp.Or[error](err, n.used(uses))
		}
	}
}

// claim tries it once, and gives who is in the way. What it has claimed it keeps: to close
// what could be written would call udev.
func (n *Node) claim() ([]Use, error) {
	if uses := System.Uses(n.Number); len(uses) > 0 || n.exclusive != nil {
		return uses, nil
	}
	f, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", n.Fd()), unix.O_RDWR|unix.O_EXCL|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if errors.Is(err, unix.EBUSY) {
		return nil, nil // of somebody who is not seen
	}
	if err != nil {
		return nil, fmt.Errorf("cannot open device %q: %w", n.Path, err)
	}
	n.exclusive = f
	return System.Uses(n.Number), nil // who came meanwhile
}

// Used is the refusal of a device that is known to be in use, which names by whom where
// that is seen.
func (n *Node) Used() *UsedError { return n.used(System.Uses(n.Number)) }

// used is the refusal of a device because of its users.
func (n *Node) used(uses []Use) *UsedError {
	holder, release := Named(uses)
	return &UsedError{Path: n.Path, Holder: holder, Release: release}
}

// Unused fails with a *UsedError if others use the open device as their own: who only
// has it open does not count.
func (n *Node) Unused() error {
	var uses []Use
	for _, u := range System.Uses(n.Number) {
		if !u.Passing {
			uses = append(uses, u)
		}
	}
	if len(uses) == 0 {
		return nil
	}
	return n.used(uses)
}

// Yield gives up the claim for a program that makes one of its own; the device stays open
// to read.
func (n *Node) Yield() error {
	if n.exclusive == nil {
		return nil
	}
	f := n.exclusive
	n.exclusive = nil
	return f.Close()
}

// Exclusive takes the file that keeps others away, which can be written too, and is the
// caller's from then on.
func (n *Node) Exclusive() *os.File {
	f := n.exclusive
	n.exclusive = nil
	return f
}

// Close gives up all of it.
func (n *Node) Close() error { return errors.Join(n.Yield(), n.File.Close()) }
