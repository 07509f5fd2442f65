package service

import (
	"context"
	"errors"

	"storaged/internal/record"
	"storaged/internal/store"
)

// MoveVolume gives a volume another name, in another pool if asked.
func (s *Service) MoveVolume(ctx context.Context, sub Submit, pool, volume string, r VolumeMove) (Started, error) {
	if r.Name != "" {
		if err := checkName("volume", r.Name); err != nil {
			return Started{}, err
		}
	}
	return s.resolve(ctx, sub, r.JobOptions, func(tx *store.Tx) (work, error) {
		from, v, err := settledVolume(tx, sub, pool, volume)
		if err != nil {
			return work{}, err
		}
		to, err := destination(tx, from, r.Pool)
		if err != nil {
			return work{}, err
		}
		name := r.Name
		if name == "" {
			name = v.Name
		}
		return moveWork(from, to, v, name), movable(tx, v, to, name)
	})
}

// moveWork is the work of a move. On one file system it needs no room.
func moveWork(from, to *store.Pool, v *store.Volume, name string) work {
	w := volumeWork(from, record.VolumeMove, v.Name)
	w.into(to, name)
	w.Format, w.Promise = v.Format, v.Promised
	if !together(from, to) {
		w.Allocation = max(v.Allocation, v.Promised)
	}
	return w
}

// together reports whether two pools lie on one file system, as far as is
// known.
func together(a, b *store.Pool) bool {
	return a.Name == b.Name || a.Type == b.Type && oneStore(a.Type, a.Identity, b.Identity)
}

// movable refuses a name that is taken, and a move after which the volume would
// not find what it stands on.
func movable(tx *store.Tx, v *store.Volume, to *store.Pool, name string) error {
	if err := freeName(tx, to, name); err != nil {
		return err
	}
	return portable(v, to)
}

func beginMove(k *keeper, tx *store.Tx, w work, j *store.Job) error {
	if _, err := activePool(tx, w.Pool); err != nil {
		return err
	}
	src, err := findVolume(tx, w.Pool, w.Volume)
	if err != nil {
		return err
	}
	if src.State == record.VolumeBuilding {
		return whole(tx, src)
	}
	if err := errors.Join(childless(tx, src), portable(src, &store.Pool{Pool: record.Pool{Name: w.TargetPool}})); err != nil {
		return err
	}
	w.Format = src.Format
	return k.building(tx, w, j, store.Volume{References: src.References, Volume: record.Volume{
		Pool: w.TargetPool, Name: w.TargetName, Path: w.TargetPath,
		Capacity: src.Capacity, Backing: src.Backing, Description: src.Description,
	}})
}

// endMove lets the new entry follow the volume, and takes the old one away if
// the volume is gone from there. After a move that ended half-way both are
// there, and both are whole.
func endMove(k *keeper, tx *store.Tx, e end) error {
	dst, err := tx.Volume(e.target())
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil // refused at the grant, before there was an entry
	case err != nil:
		return err
	case dst.State != record.VolumeBuilding || !made(dst, e.job):
		return nil // somebody else's
	case !e.ok() && (e.report == nil || e.report.Volume == nil):
		return k.dropVolume(tx, "volume.rolled_back", dst)
	}
	src, err := tx.Volume(e.Pool, e.Volume)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	inherit(dst, src)
	if e.job.Code() == record.Inconsistent {
		dst.State, dst.Job = record.VolumeIncomplete, &e.job.Number
	}
	k.observe(dst, e)
	if err := k.arrive(tx, dst); err != nil || !e.ok() || src == nil {
		return err
	}
	return k.depart(tx, src)
}

// inherit makes an entry that of the volume that had another; nil is one that
// nobody knows of any more.
func inherit(dst, src *store.Volume) {
	if src == nil {
		dst.State, dst.Job, dst.Planned = record.VolumeReady, nil, 0
		dst.Generation++
		return
	}
	dst.Format, dst.Description, dst.Origin, dst.CreatedBy = src.Format, src.Description, src.Origin, src.CreatedBy
	dst.State, dst.Job, dst.Planned = src.State, src.Job, 0
	dst.Generation = src.Generation + 1
}

// arrive lists a volume that has come into its pool.
func (k *keeper) arrive(tx *store.Tx, v *store.Volume) error {
	if err := k.putVolume(tx, "volume.created", v); err != nil {
		return err
	}
	return k.provision(tx, v.Pool, v.Capacity)
}

// depart takes the entry of a volume away that has left its pool.
func (k *keeper) depart(tx *store.Tx, v *store.Volume) error {
	if err := k.dropVolume(tx, "volume.deleted", v); err != nil {
		return err
	}
	return k.provision(tx, v.Pool, -v.Capacity)
}
