package catalog

import (
	"errors"
	"slices"

	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/store"
)

// together reports whether two pools lie on one file system, as far as is
// known.
func together(a, b *store.Pool) bool {
	return a.Name == b.Name || a.Type == b.Type && oneStore(a.Type, a.Identity, b.Identity)
}

// shareless reports whether two pools are known to lie so that their volumes share no
// blocks, as far as their drivers tell, or on different disks.
func shareless(a, b *store.Pool) bool {
	return unshared(a.Type, a.Identity, b.Identity) || unshared(b.Type, b.Identity, a.Identity) || disjoint(a.Devices, b.Devices)
}

// disjoint reports whether nothing is in both of two lists, neither of which is empty.
func disjoint(a, b []string) bool {
	return len(a) > 0 && len(b) > 0 && !slices.ContainsFunc(a, func(d string) bool { return slices.Contains(b, d) })
}

// beginMove lists the volume under its new name.
func beginMove(c *Catalog, tx *store.Tx, o operation.Operation, j *store.Job) error {
	src, err := allowed(tx, o, j)
	if err != nil {
		return err
	}
	to := operation.Destination(o)
	return c.building(tx, o, j, store.Volume{References: src.References, IterTime: src.IterTime, Volume: record.Volume{
		Pool: to.Pool, Name: to.Name, Path: to.Path, Format: src.Format, Secret: src.Secret,
		Capacity: src.Capacity, Backing: src.Backing, Options: src.Options, InternalSnapshots: src.InternalSnapshots, Description: src.Description,
	}})
}

// endMove lets the new entry follow the volume, and takes the old one away if
// the volume is gone from there. After a move that ended half-way both are
// there, and both are whole.
func endMove(c *Catalog, tx *store.Tx, e end) error {
	dst, err := tx.Volume(operation.ResultOf(e.Operation))
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil // refused at the grant, before there was an entry
	case err != nil:
		return err
	case dst.State != record.VolumeBuilding || !Made(dst, e.job):
		return nil // somebody else's
	case !e.ok() && (e.report == nil || e.report.Volume == nil):
		return c.dropVolume(tx, "volume.rolled_back", dst)
	}
	src, err := tx.Volume(e.On().Pool, e.On().Name)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	inherit(dst, src)
	if e.job.Code() == record.Inconsistent {
		dst.State, dst.Job = record.VolumeIncomplete, &e.job.Number
	}
	c.observe(dst, e)
	if err := c.arrive(tx, dst); err != nil || !e.ok() || src == nil {
		return err
	}
	return c.depart(tx, src)
}

// inherit makes an entry that of the volume that had another; nil is one that
// nobody knows of any more.
func inherit(dst, src *store.Volume) {
	if src == nil {
		dst.State, dst.Job = record.VolumeReady, nil
		dst.Generation++
		return
	}
	dst.Problem, dst.Cut, dst.IterTime = src.Problem, src.Cut, src.IterTime
	dst.Format, dst.Secret, dst.Description, dst.Origin, dst.CreatedBy = src.Format, src.Secret, src.Description, src.Origin, src.CreatedBy
	dst.State, dst.Job = src.State, src.Job
	dst.Generation = src.Generation + 1
}

// arrive lists a volume that has come into its pool.
func (c *Catalog) arrive(tx *store.Tx, v *store.Volume) error {
	if err := c.putVolume(tx, "volume.created", v); err != nil {
		return err
	}
	return c.provision(tx, v.Pool, v.Capacity)
}

// depart takes the entry of a volume away that has left its pool.
func (c *Catalog) depart(tx *store.Tx, v *store.Volume) error {
	if err := c.dropVolume(tx, "volume.deleted", v); err != nil {
		return err
	}
	return c.provision(tx, v.Pool, -v.Capacity)
}
