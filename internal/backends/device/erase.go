package device

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"storaged/internal/backends"
	"storaged/internal/blockdev"
	"storaged/internal/partition"
	"storaged/internal/tool"
)

// Erase takes from a device all that it could be known by: every signature with its
// copies, a partition table also where it is damaged and so is no signature, and the
// partitions that the kernel has of it. claimed is what was opened by Claim; it is held
// once more against the device that was looked at before the first write.
func Erase(ctx context.Context, seen, claimed *blockdev.Node) error {
	if seen.Number != claimed.Number || seen.Size != claimed.Size {
		return fmt.Errorf("device %q is another than a moment ago", seen.Path)
	}
	if err := claimed.Same(); err != nil {
		return err
	}
	if err := vanish(claimed); err != nil {
		return err
	}
	if err := erase(ctx, claimed); err != nil {
		return fmt.Errorf("cannot erase what device %q carries: %w", seen.Path, err)
	}
	return nil
}

func erase(ctx context.Context, dev *blockdev.Node) error {
	if err := tool.EraseSignatures(ctx, dev.File); err != nil {
		return err
	}
	if err := eraseTable(dev); err != nil {
		return err
	}
	types, err := Types(ctx, dev.File)
	if err == nil && len(types) > 0 {
		err = fmt.Errorf("it carries %s still", Named(types))
	}
	return err
}

func eraseTable(dev *blockdev.Node) error {
	sector, err := blockdev.SectorSize(dev.File)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", dev.Fd()), unix.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(partition.Erase(f, dev.Size, sector), f.Close())
}

// vanish takes all partitions of a device from the kernel.
func vanish(dev *blockdev.Node) error {
	for number, part := range parts(dev) {
		if err := Vanish(dev.File, number, part); err != nil {
			return err
		}
	}
	return nil
}

// parts are those that the kernel has of a device.
func parts(dev *blockdev.Node) map[int]blockdev.Part {
	d, ok := blockdev.System.Device(dev.Number)
	if !ok {
		return nil // it has gone
	}
	return d.Parts()
}

// goingTime is how long others may have a partition open that goes: who refreshes a pool
// reads its beginning, and so does udev.
const goingTime = 5 * time.Second

// Vanish takes the device of a partition from the kernel, which does that if nobody has it
// open.
func Vanish(disk *os.File, number int, part blockdev.Part) error {
	at := Node{Path: part.Node(), Number: part.Number()}
	tick := time.NewTicker(goingTime / 500)
	defer tick.Stop()
	for end := time.Now().Add(goingTime); ; <-tick.C {
		err := blockdev.RemovePart(disk, number)
		switch {
		case err == nil || errors.Is(err, unix.ENXIO):
			return nil
		case !errors.Is(err, unix.EBUSY):
			return fmt.Errorf("cannot take %q from the kernel: %w", part.Node(), err)
		}
		if err := at.Locked(backends.WriteExclusive); err != nil {
			return err
		}
		if time.Now().After(end) {
			return at.claimed(blockdev.System.Uses(part.Number()))
		}
	}
}
