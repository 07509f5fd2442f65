// Package device is what pool types share that stand on block devices, or whose volumes
// are block devices: opening one so that nobody else has it, and knowing it again.
package device

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"storaged/internal/backends"
	"storaged/internal/blockdev"
	"storaged/internal/image"
	"storaged/internal/record"
)

// Node is where a device is found that is a volume.
type Node struct {
	Path   string
	Number string // that it must have, as major:minor: a name in /dev may be late
}

// Open opens the device with the locks of the access. Whoever makes something of it,
// a file system that is mounted or a device above it, is a *backends.BusyError, as is
// who has it open, but for those that the access lets in.
func (n Node) Open(ctx context.Context, a backends.Access) (*os.File, error) {
	open, lock := n.read, image.LockShared
	switch a {
	case backends.WriteExclusive:
		open, lock = n.claim, image.LockNew // the claim has waited for those who come by, as udev does at any time
	case backends.Grow:
		open, lock = n.grow, image.LockGrow
	}
	if err := n.unwritten(); err != nil {
		return nil, err
	}
	f, err := open(ctx)
	if err != nil {
		return nil, err
	}
	if err = n.Busy(lock(f)); err == nil {
		err = n.is(f)
	}
	if err != nil {
		f.Close() // nothing was written
		return nil, err
	}
	return f, nil
}

// unwritten refuses a device that somebody writes to who has the locks of images: there is
// nothing to wait for.
func (n Node) unwritten() error {
	f, err := os.OpenFile(n.Path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return n.missing(err)
	}
	defer f.Close() // it was only looked at
	return n.Busy(image.AskShared(f))
}

// Locked refuses a device at once that somebody has with locks which exclude the access.
// Who has it without locks may be about to let go, and so is waited for where it is opened.
func (n Node) Locked(a backends.Access) error {
	ask := image.AskShared
	if a == backends.WriteExclusive {
		ask = image.AskExclusive
	}
	f, err := os.OpenFile(n.Path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return n.missing(err)
	}
	defer f.Close() // it was only looked at
	if err := ask(f); err != nil {
		if _, used := errors.AsType[*image.InUseError](err); used {
			return n.Busy(err)
		}
	}
	return nil
}

// OpenNew is Open for whoever has just made the device, and writes to it: who else has it open
// came by, and is not looked for.
func (n Node) OpenNew() (*os.File, error) {
	f, err := os.OpenFile(n.Path, unix.O_RDWR|unix.O_EXCL|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, n.missing(err)
	}
	if err = n.Busy(image.LockNew(f)); err == nil {
		err = n.is(f)
	}
	if err != nil {
		f.Close() // nothing was written
		return nil, err
	}
	return f, nil
}

// claim opens it for somebody whom nobody else is to disturb, also those who ask nobody.
func (n Node) claim(context.Context) (*os.File, error) {
	if err := n.Locked(backends.WriteExclusive); err != nil {
		return nil, err
	}
	dev, err := blockdev.Claim(n.Path)
	if err != nil {
		return nil, n.missing(InUse(err))
	}
	defer dev.Close()
	return dev.Exclusive(), nil
}

// grow claims it beside those who read: they do not claim it for longer than a moment.
func (n Node) grow(ctx context.Context) (*os.File, error) { return n.await(ctx, unix.O_RDWR) }

// read claims the device for an instant, since two who read do not exclude each other.
func (n Node) read(ctx context.Context) (*os.File, error) {
	claim, err := n.await(ctx, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer claim.Close() // nothing was written
	f, err := os.OpenFile(n.Path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open device: %w", err)
	}
	return f, nil
}

// claimInterval is how often it is tried: whoever reads claims it for less.
const claimInterval = 20 * time.Millisecond

// await claims the device for as long as it is open (open(2), O_EXCL).
func (n Node) await(ctx context.Context, flags int) (f *os.File, err error) {
	tick := time.NewTicker(claimInterval)
	defer tick.Stop()
	for since := time.Now(); ; {
		f, err = os.OpenFile(n.Path, flags|unix.O_EXCL|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
		switch {
		case err == nil:
			return f, nil
		case !errors.Is(err, unix.EBUSY):
			return nil, n.missing(err)
		}
		if uses := blockdev.System.Uses(n.Number); time.Since(since) >= blockdev.Patience(uses) {
			return nil, n.claimed(uses)
		}
		if err := n.Locked(backends.ReadShared); err != nil {
			return nil, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// missing says that there is no such volume where there is no such device.
func (n Node) missing(err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENXIO) {
		return &backends.MissingError{Path: n.Path}
	}
	return err
}

// claimed says who has claimed the device, as far as the kernel tells.
func (n Node) claimed(uses []blockdev.Use) error {
	who, release := blockdev.Named(uses)
	if who == "" {
		who = "the kernel"
	}
	return &backends.BusyError{Object: n.Path, Holder: who, Release: release}
}

// Busy turns the answer of an image lock into the error of package backends.
func (n Node) Busy(err error) error {
	if used, ok := errors.AsType[*image.InUseError](err); ok {
		return &backends.BusyError{Object: n.Path, Holder: used.Holder, Release: used.Release}
	}
	if err != nil {
		return fmt.Errorf("device %q: %w", n.Path, err)
	}
	return nil
}

// is refuses another device than the one that is meant.
func (n Node) is(f *os.File) error {
	st, err := blockdev.Statx(f)
	switch {
	case err != nil:
		return fmt.Errorf("cannot look at device %q: %w", n.Path, err)
	case st.Mode&unix.S_IFMT != unix.S_IFBLK:
		return fmt.Errorf("%q %w: it is no block device", n.Path, backends.ErrUnsafe)
	}
	if number, err := blockdev.Of(f); err != nil || number != n.Number {
		return fmt.Errorf("device %q %w: its name means %s, and it was %s", n.Path, backends.ErrUnsafe, number, n.Number)
	}
	return nil
}

// Rights are those of the node by which an open device was found; nil where they are not
// known.
func Rights(f *os.File) *record.Permissions {
	if f == nil {
		return nil
	}
	st, err := blockdev.Statx(f)
	if err != nil {
		return nil
	}
	return &record.Permissions{Mode: fmt.Sprintf("%04o", st.Mode&0o7777), Owner: st.Uid, Group: st.Gid}
}

// Instance is by what an open device is known again until it is taken away, or the host is
// restarted: its kernel's number is another's then. A partition has that of its disk, and where
// it begins.
func Instance(f *os.File) (string, error) {
	number, err := blockdev.Of(f)
	if err != nil {
		return "", err
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", err
	}
	dir := "/sys/dev/block/" + number + "/"
	seq, err := os.ReadFile(dir + "diskseq")
	start := []byte("0")
	if err != nil {
		seq, err = os.ReadFile(dir + "../diskseq")
		if err == nil {
			start, err = os.ReadFile(dir + "start")
		}
	}
	if err != nil {
		return "", fmt.Errorf("device %s does not tell which one it is: %w", number, err)
	}
	return strings.Join(strings.Fields(string(boot)+" "+string(seq)+" "+string(start)), ":"), nil
}

// Written is how much was written to an open device since the host was started, and which
// start that was: as long as it is the same nothing was written.
func Written(f *os.File) (string, error) {
	number, err := blockdev.Of(f)
	if err != nil {
		return "", err
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", err
	}
	stat, err := os.ReadFile("/sys/dev/block/" + number + "/stat")
	const sectorsWritten, discarded = 6, 13 // of block/stat.rst
	words := strings.Fields(string(stat))
	if err != nil || len(words) <= discarded {
		return "", errors.Join(fmt.Errorf("what was written to device %s is not known", number), err)
	}
	return strings.Join([]string{strings.TrimSpace(string(boot)), words[sectorsWritten], words[discarded]}, ":"), nil
}
