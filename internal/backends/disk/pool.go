package disk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"storaged/internal/backends"
	"storaged/internal/backends/device"
	"storaged/internal/blockdev"
	"storaged/internal/partition"
	"storaged/internal/record"
	"storaged/internal/tool"
)

// Build makes an empty table on a disk that nobody uses. One that carries anything stays as it
// is unless overwrite is set.
func (Backend) Build(ctx context.Context, p backends.Pool, overwrite bool) error {
	label := cmp.Or(p.Source.Format, labels[0])
	if !slices.Contains(labels, label) {
		return record.Errorf(record.Invalid, "no partition table is made in format %q: say in which, one of %s", label, record.List(labels, len(labels)))
	}
	d, err := opened(ctx, p)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.look(); err != nil {
		return err
	}
	if err := d.called(); err != nil {
		return err
	}
	claimed, err := device.Vacate(ctx, d.node, overwrite)
	if err != nil {
		return err
	}
	defer claimed.Close()
	if err := d.look(); err != nil { // what the kernel had of it has gone
		return err
	}
	sector, err := blockdev.SectorSize(d.node.File)
	if err == nil {
		d.table, err = partition.New(label, d.node.Size, sector)
	}
	if err != nil {
		return record.Errorf(record.Invalid, "device %q: %v", d.node.Path, err)
	}
	if err := d.save(); err != nil {
		return err
	}
	d.pool.ID = identityOf(d.table)
	return d.read()
}

// called refuses a disk by a link from which names of its partitions do not follow.
func (d *disk) called() error {
	path := pathOf(d.pool)
	if path == d.node.Path || strings.HasPrefix(path, linked) {
		return nil
	}
	return record.Errorf(record.Invalid, "%q is a link, and nobody makes such links to partitions", path).
		WithHint("define the pool on %s, or on a link to it in %s", d.node.Path, linked)
}

// Delete removes the partitions, if they are to go too, and the table. Nothing is done where
// somebody uses one of them.
func (Backend) Delete(ctx context.Context, p backends.Pool, withVolumes bool) error {
	d, err := enter(ctx, p)
	if p.ID == "" && errors.Is(err, backends.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.expendable(withVolumes); err != nil {
		return err
	}
	for _, x := range d.table.Partitions {
		if x.Kind == partition.Extended {
			continue
		}
		f, err := d.open(ctx, x, backends.WriteExclusive)
		if err != nil {
			return err
		}
		f.Close() // nothing was written, and nobody comes in: the disk is locked
	}
	return d.erase(ctx)
}

// expendable refuses a table that is not to go with what it has.
func (d *disk) expendable(withVolumes bool) error {
	drafts, volumes := 0, []string{}
	for _, x := range d.table.Partitions {
		switch {
		case x.Mark != "":
			drafts++
		case x.Kind != partition.Extended:
			volumes = append(volumes, nameOf(d.pool, x.Number))
		}
	}
	if drafts > 0 || len(volumes) > 0 && !withVolumes {
		return fmt.Errorf("device %q %w: it has %d partitions, and %d that jobs are making", d.node.Path, backends.ErrNotEmpty, len(volumes), drafts)
	}
	return d.pool.Unlisted(volumes)
}

// erase takes all partitions from the kernel, and the table from the disk.
func (d *disk) erase(ctx context.Context) error {
	claimed, err := blockdev.Claim(d.node.Path)
	if err != nil {
		return device.InUse(err)
	}
	defer claimed.Close()
	return device.Erase(ctx, d.node, claimed)
}

// Ready looks for the disk and its table.
func (Backend) Ready(ctx context.Context, p backends.Pool) error {
	if p.ID != "" {
		p.Spared = nil // it is known, and is the pool's own as long as no other has it in use
	}
	d, err := enter(ctx, p)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.fits(ctx)
}

// fits refuses a disk whose table is not the pool's, or not all that it carries.
func (d *disk) fits(ctx context.Context) error {
	if want := d.pool.Source.Format; want != "" && want != d.table.Label {
		return record.Errorf(record.WrongState, "the partition table of device %q is in format %q, and not in %q", d.node.Path, d.table.Label, want)
	}
	types, err := device.Types(ctx, d.node.File)
	if _, lacks := errors.AsType[*tool.MissingError](err); lacks {
		return d.called()
	}
	if err != nil {
		return fmt.Errorf("cannot tell what device %q carries: %w", d.node.Path, err)
	}
	others := slices.DeleteFunc(slices.Clone(types), func(t string) bool { return t == d.table.Label || t == "PMBR" })
	if len(others) > 0 {
		return record.Errorf(record.WrongState, "device %q carries %s beside a partition table: which of that counts nobody can tell", d.node.Path, device.Named(others)).
			WithHint("erase what is not meant: wipefs --all --types TYPE %s", d.node.Path)
	}
	return d.called()
}

// Start tells the kernel of the partitions that it does not have.
func (b Backend) Start(ctx context.Context, p backends.Pool) error {
	if p.ID != "" {
		p.Spared = nil
	}
	d, err := enter(ctx, p)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.fits(ctx); err != nil {
		return err
	}
	for _, x := range d.table.Partitions {
		if err := ctx.Err(); err != nil {
			return err
		}
		if x.Kind == partition.Extended || x.Mark != "" {
			continue
		}
		if _, err := d.appear(x); err != nil {
			return err
		}
	}
	return nil
}

// Stop leaves the partitions as they are: the kernel has those of any disk.
func (Backend) Stop(ctx context.Context, _ backends.Pool) error { return ctx.Err() }

// Refresh tells what the table has, and reads the beginnings of the volumes.
func (b Backend) Refresh(ctx context.Context, p backends.Pool, found func(backends.VolumeInfo) error) (backends.PoolInfo, error) {
	s, err := seen(ctx, p)
	if err != nil {
		return backends.PoolInfo{}, err
	}
	return s.Refresh(ctx, b, p, doPeek, found)
}

// Space tells what the table says.
func (Backend) Space(ctx context.Context, p backends.Pool) (backends.PoolInfo, error) {
	s, err := seen(ctx, p)
	s.Pool.Disk = ""
	return s.Pool, err
}
