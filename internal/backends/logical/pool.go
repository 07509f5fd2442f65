package logical

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"storaged/internal/backends"
	"storaged/internal/backends/device"
	"storaged/internal/backends/header"
	"storaged/internal/blockdev"
	"storaged/internal/record"
)

// Build makes a group of the devices. One that carries anything stays as it is unless
// overwrite is set, and one that somebody uses in any case. A group of the name that has
// other devices too is not destroyed.
func (Backend) Build(ctx context.Context, p backends.Pool, overwrite bool) error {
	if err := cmp.Or(ctx.Err(), checkGroup(groupOf(p))); err != nil {
		return err
	}
	if len(p.Source.Devices) == 0 {
		return record.Errorf(record.Invalid, "volume group %q has no source devices to be made of", groupOf(p)).
			WithHint("define the pool with %s", record.Do("").With("source_devices", "DEVICE"))
	}
	p.ID = ""
	nodes, err := sources(p)
	if err != nil {
		return err
	}
	defer closeAll(nodes)
	if err := free(ctx, p, nodes, overwrite); err != nil {
		return err
	}
	var operands []string
	for _, seen := range nodes {
		dev, err := device.Vacate(ctx, seen, overwrite)
		if err != nil {
			return err
		}
		defer dev.Close() // its number is not another's meanwhile
		operands = append(operands, dev.Path)
	}
	if err := change(ctx, p, command{"vgcreate", nil, append([]string{groupOf(p)}, operands...)}); err != nil {
		return fmt.Errorf("cannot make volume group %q: %w", groupOf(p), err)
	}
	return nil
}

// sources opens the devices of a pool.
func sources(p backends.Pool) (nodes []*blockdev.Node, err error) {
	for _, path := range p.Source.Devices {
		dev, err := device.Source(p, path)
		if err != nil {
			closeAll(nodes)
			return nil, err
		}
		nodes = append(nodes, dev)
	}
	return nodes, nil
}

func closeAll(nodes []*blockdev.Node) {
	for _, n := range nodes {
		n.Close() // it was only looked at
	}
}

// free refuses a name that a group has. One that has no other devices than those may be
// overwritten.
func free(ctx context.Context, p backends.Pool, nodes []*blockdev.Node, overwrite bool) error {
	g, err := look(ctx, p)
	if errors.Is(err, backends.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, path := range g.devices {
		dev, err := blockdev.OpenNode(path)
		if err != nil {
			return fmt.Errorf("cannot open device %q of volume group %q: %w", path, g.name, err)
		}
		among := slices.ContainsFunc(nodes, func(n *blockdev.Node) bool { return n.Number == dev.Number })
		dev.Close() // it was only looked at
		if !among || g.missing > 0 {
			return record.Errorf(record.Exists, "there is a volume group %q already, on other devices than those of the pool", g.name).
				WithHint("choose another name for the pool's source, or define it without devices and start it")
		}
	}
	if !overwrite {
		return fmt.Errorf("volume group %q %w", g.name, backends.ErrExists)
	}
	return nil
}

// Delete removes the group, and what its devices have of LVM.
func (Backend) Delete(ctx context.Context, p backends.Pool, withVolumes bool) error {
	g, err := look(ctx, p)
	if errors.Is(err, backends.ErrNotFound) {
		return nil
	}
	if err == nil {
		err = cmp.Or(g.whole(), g.emptied(withVolumes), p.Unlisted(g.names()), g.unused(ctx, p))
	}
	if err != nil {
		return err
	}
	slices.SortStableFunc(g.volumes, func(a, b logicalVolume) int { return cmp.Compare(a.rank(), b.rank()) })
	for i := range g.volumes {
		if err := g.volumes[i].remove(ctx, p); err != nil {
			return err
		}
	}
	if err := change(ctx, p, command{"vgremove", nil, []string{g.name}}); err != nil {
		return fmt.Errorf("cannot remove volume group %q: %w", g.name, err)
	}
	if err := change(ctx, p, command{"pvremove", nil, g.devices}); err != nil {
		return fmt.Errorf("volume group %q is removed, and its devices %q cannot be freed of LVM: %w", g.name, g.devices, err)
	}
	return nil
}

// whole fails if devices of the group are missing.
func (g *group) whole() error {
	if g.missing == 0 {
		return nil
	}
	return record.Errorf(record.WrongState, "volume group %q lacks %d of its devices", g.name, g.missing).WithHint("bring them back")
}

// emptied refuses to delete a group that has anything that is not to go.
func (g *group) emptied(withVolumes bool) error {
	for i := range g.volumes {
		if v := &g.volumes[i]; !withVolumes || v.ignored() != "" || record.Reserved(v.name) && !frozen(v.name) {
			return fmt.Errorf("volume group %q %w: it has %q", g.name, backends.ErrNotEmpty, record.Escape(v.name))
		}
	}
	return nil
}

func (g *group) names() (names []string) {
	for _, v := range g.volumes {
		names = append(names, v.name)
	}
	return names
}

// rank orders volumes so that snapshots come before what they are of.
func (v *logicalVolume) rank() int {
	if v.origin != "" {
		return 0
	}
	return 1
}

// Start activates the volumes.
func (Backend) Start(ctx context.Context, p backends.Pool) error {
	g, err := look(ctx, p)
	if err == nil {
		err = g.whole()
	}
	if err != nil {
		return err
	}
	return activate(ctx, p, "y")
}

// Ready looks for the group.
func (Backend) Ready(ctx context.Context, p backends.Pool) error {
	g, err := look(ctx, p)
	if err == nil {
		err = g.whole()
	}
	return err
}

// Stop deactivates the volumes, all or none.
func (Backend) Stop(ctx context.Context, p backends.Pool) error {
	g, err := look(ctx, p)
	if err == nil {
		err = g.unused(ctx, p)
	}
	if err != nil {
		return err
	}
	return activate(ctx, p, "n")
}

// unused refuses a group of which somebody uses a volume.
func (g *group) unused(ctx context.Context, p backends.Pool) error {
	for i := range g.volumes {
		v := &g.volumes[i]
		if !v.active || !v.device() {
			continue
		}
		f, err := v.file(ctx, p, ways[backends.WriteExclusive])
		if err != nil {
			return err
		}
		f.Close() // nothing was written
	}
	return nil
}

func activate(ctx context.Context, p backends.Pool, how string) error {
	if err := change(ctx, p, command{"vgchange", []string{"--activate", how}, []string{groupOf(p)}}); err != nil {
		return fmt.Errorf("cannot activate (%s) the volumes of volume group %q: %w", how, groupOf(p), err)
	}
	return nil
}

// Refresh tells what LVM reports, and reads the beginnings of the volumes.
func (Backend) Refresh(ctx context.Context, p backends.Pool, found func(backends.VolumeInfo) error) (backends.PoolInfo, error) {
	g, err := look(ctx, p)
	if err != nil {
		return backends.PoolInfo{}, err
	}
	in := header.NewReader()
	for i := range g.volumes {
		v := &g.volumes[i]
		if record.Reserved(v.name) && !frozen(v.name) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return backends.PoolInfo{}, err
		}
		if err := found(v.look(ctx, p, in)); err != nil {
			return backends.PoolInfo{}, err
		}
	}
	return g.info(p), nil
}

// Space tells what LVM reports.
func (Backend) Space(ctx context.Context, p backends.Pool) (backends.PoolInfo, error) {
	g, err := look(ctx, p)
	if err != nil {
		return backends.PoolInfo{}, err
	}
	return g.info(p), nil
}

func (g *group) info(p backends.Pool) backends.PoolInfo {
	return backends.PoolInfo{
		Path: dir(p), ID: g.uuid, Capacity: g.size, Allocation: g.size - g.free, Available: g.free, ThinPools: g.thinPools(),
	}
}

// thinPools are the first record.MaxThinPools of those that say how full they are.
func (g *group) thinPools() (all []record.ThinPool) {
	for i := range g.volumes {
		v := &g.volumes[i]
		if v.kind != 't' || v.filled < 0 || len(all) == record.MaxThinPools {
			continue
		}
		all = append(all, record.ThinPool{
			Name: record.Escape(v.name), Capacity: v.size, Allocation: part(v.size, v.filled),
			MetadataCapacity: v.meta, MetadataAllocation: part(v.meta, max(v.tables, 0)),
		})
	}
	return all
}

// part is so many percent of a size.
func part(size int64, percent float64) int64 { return int64(float64(size) * percent / 100) }
