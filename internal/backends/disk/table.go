package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"storaged/internal/backends"
	"storaged/internal/backends/device"
	"storaged/internal/blockdev"
	"storaged/internal/partition"
	"storaged/internal/record"
)

// disk is the open disk of a pool, whose table nobody else changes before it is closed.
type disk struct {
	pool  backends.Pool
	node  *blockdev.Node
	table *partition.Table
	parts map[int]blockdev.Part // that the kernel has
}

// lockTime is how long somebody may have the disk's lock: udev has it while it reads the
// table, and who changes it while that is made durable.
const lockTime = 30 * time.Second

// opened opens the disk of a pool, without looking at its table. It is locked by the rule of
// systemd for block devices (https://systemd.io/BLOCK_DEVICE_LOCKING), so that udev and others
// who keep to that do not look meanwhile. Who waits does not have it open: that is a use of it.
func opened(ctx context.Context, p backends.Pool) (*disk, error) {
	tick := time.NewTicker(lockTime / 3000)
	defer tick.Stop()
	for end := time.Now().Add(lockTime); ; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		node, err := device.Source(p, pathOf(p))
		if err != nil {
			return nil, err
		}
		if err = unix.Flock(int(node.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
			return &disk{pool: p, node: node}, nil
		}
		node.Close() // nothing was written
		switch {
		case !errors.Is(err, unix.EWOULDBLOCK):
			return nil, fmt.Errorf("cannot lock device %q: %w", node.Path, err)
		case time.Now().After(end):
			return nil, &backends.BusyError{Object: node.Path, Holder: "somebody who reads or changes its partition table"}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// Close lets others at it.
func (d *disk) Close() { d.node.Close() } // what was changed is durable

// enter opens the disk with its table, which is the pool's.
func enter(ctx context.Context, p backends.Pool) (*disk, error) {
	d, err := opened(ctx, p)
	if err != nil {
		return nil, err
	}
	if err := d.read(); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

func (d *disk) read() error {
	sector, err := blockdev.SectorSize(d.node.File)
	if err == nil {
		d.table, err = partition.Read(d.node.File, d.node.Size, sector)
	}
	switch {
	case errors.Is(err, partition.ErrNone):
		return device.Lacking(d.pool, fmt.Errorf("device %q: %w", d.node.Path, err))
	case err != nil:
		return fmt.Errorf("device %q: %w", d.node.Path, err)
	case !(Backend{}).Same(d.pool.ID, identityOf(d.table)):
		return &backends.AwayError{Target: d.pool.Target, Err: fmt.Errorf("the partition table of device %q %w: it was %s, and is %s", d.node.Path, backends.ErrReplaced, d.pool.ID, identityOf(d.table))}
	}
	return d.look()
}

// look reads which partitions the kernel has.
func (d *disk) look() error {
	of, ok := blockdev.System.Device(d.node.Number)
	if !ok {
		return fmt.Errorf("the kernel does not describe device %q", d.node.Path)
	}
	if of.Attribute("partition") != "" || of.Attribute("ext_range") == "1" {
		return record.Errorf(record.Unsupported, "device %q can have no partitions: it is one itself, or stands on other devices", d.node.Path)
	}
	d.parts = of.Parts()
	return nil
}

func identityOf(t *partition.Table) backends.Identity {
	return backends.Identity(t.Label + ":" + t.ID)
}

// partIdentity is that of a partition. Of a table of DOS it is where the partition lies.
func partIdentity(t *partition.Table, x partition.Partition) backends.Identity {
	if t.Label == partition.DOS {
		return backends.Identity(fmt.Sprintf("%s@%d", x.ID, x.Start/t.Sector))
	}
	return backends.Identity(x.ID)
}

// find gives the partition that has the name and is a volume, a *backends.MissingError if
// there is none.
func (d *disk) find(name string) (partition.Partition, error) {
	if err := (Backend{}).CheckNameIn(d.pool, name); err != nil {
		return partition.Partition{}, err
	}
	_, number, _ := divided(name)
	x := d.table.Find(number)
	if x == nil || x.Mark != "" {
		return partition.Partition{}, &backends.MissingError{Path: Backend{}.Locate(d.pool, name).Path}
	}
	if x.Kind == partition.Extended {
		return *x, fmt.Errorf("volume %q %w: %s", name, backends.ErrUnsafe, holds)
	}
	return *x, nil
}

// holds says why the extended partition is no volume.
const holds = "it is the extended partition, which holds the logical ones"

// save writes the table, durably.
func (d *disk) save() error { return d.write(d.table.Save) }

// write opens the disk for writing.
func (d *disk) write(do func(partition.Disk) error) error {
	f, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", d.node.Fd()), unix.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("cannot open device %q: %w", d.node.Path, err)
	}
	err = do(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("device %q: %w", d.node.Path, err)
	}
	return nil
}

// appear gives the device of a partition, of which the kernel is told if it does not have it.
func (d *disk) appear(x partition.Partition) (blockdev.Part, error) {
	if part, ok := d.parts[x.Number]; ok {
		if part.Start != x.Start {
			return part, fmt.Errorf("partition %d of device %q %w: the kernel has another one of that number, which begins at byte %d and not at %d (partx --update %s)",
				x.Number, d.node.Path, backends.ErrUnsafe, part.Start, x.Start, d.node.Path)
		}
		return part, nil
	}
	if err := blockdev.AddPart(d.node.File, x.Number, x.Start, x.Size()); err != nil {
		return blockdev.Part{}, fmt.Errorf("cannot make a device of a part of %q: %w", d.node.Path, err)
	}
	if err := d.look(); err != nil {
		return blockdev.Part{}, err
	}
	part, ok := d.parts[x.Number]
	if !ok {
		return part, fmt.Errorf("the kernel does not have partition %d of device %q", x.Number, d.node.Path)
	}
	return part, d.await(x.Number)
}

// linkTime is how long udev may take to make links to a new device.
const linkTime = 20 * time.Second

// await waits for the link by which a partition is called, if it is called by one.
func (d *disk) await(number int) error {
	if !strings.HasPrefix(pathOf(d.pool), linked) {
		return nil
	}
	path := Backend{}.Locate(d.pool, nameOf(d.pool, number)).Path
	tick := time.NewTicker(linkTime / 1000)
	defer tick.Stop()
	for end := time.Now().Add(linkTime); ; <-tick.C {
		_, err := os.Stat(path)
		if err == nil {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("udev makes no link to partition %d of device %q: %w", number, d.node.Path, err)
		}
	}
}

// open opens the device of a partition with the locks of the access. If the kernel has it of
// another size than the table, that is mended: who was resizing it has died.
func (d *disk) open(ctx context.Context, x partition.Partition, a backends.Access) (*os.File, error) {
	part, err := d.appear(x)
	if err != nil {
		return nil, err
	}
	f, err := device.Node{Path: part.Node(), Number: part.Number()}.Open(ctx, a)
	if err != nil {
		return nil, err
	}
	if err := d.fit(x); err != nil {
		f.Close() // nothing was written
		return nil, err
	}
	return f, nil
}

// fit tells the kernel of the size that a partition has.
func (d *disk) fit(x partition.Partition) error {
	if d.parts[x.Number].Size == x.Size() {
		return nil
	}
	if err := blockdev.ResizePart(d.node.File, x.Number, x.Start, x.Size()); err != nil {
		return fmt.Errorf("cannot tell the kernel the size of partition %d of device %q: %w", x.Number, d.node.Path, err)
	}
	return nil
}

// vanish takes the device of a partition from the kernel.
func (d *disk) vanish(number int) error {
	part, ok := d.parts[number]
	if !ok {
		return nil
	}
	if err := device.Vanish(d.node.File, number, part); err != nil {
		return err
	}
	delete(d.parts, number)
	return nil
}

// drop removes a partition that nobody else has open, from the kernel and then from the table:
// what is in the table only is made known to the kernel by who opens it next.
func (d *disk) drop(x partition.Partition) error {
	if err := d.table.Remove(x.Number); err != nil {
		return record.Errorf(record.WrongState, "partition %d of device %q: %v", x.Number, d.node.Path, err)
	}
	if err := d.vanish(x.Number); err != nil {
		return err
	}
	return d.save()
}
