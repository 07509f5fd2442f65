package service

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"

	"storaged/internal/catalog"
	"storaged/internal/metrics"
	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/store"
)

// census is what the catalog has of pools and volumes, without those whose records are
// damaged: who watches the others is to go on doing so.
func (s *Service) census() (all metrics.Catalog, err error) {
	err = s.store.View(func(tx *store.Tx) error {
		pools, damagedPools, err := tx.SoundPools()
		if err != nil {
			return err
		}
		for _, p := range pools {
			all.Pools = append(all.Pools, catalog.PublicPool(p))
		}
		states, damagedVolumes, err := tx.VolumeStates(pools)
		all.Volumes, all.Damaged = states, map[string]int{"pool": damagedPools, "volume": damagedVolumes}
		return err
	})
	return all, err
}

// Volumes lists the catalog's entries of active pools, by pool and name.
func (s *Service) Volumes(_ context.Context, f contract.VolumeFilter) ([]record.Volume, error) {
	out := []record.Volume{}
	err := s.store.View(func(tx *store.Tx) error {
		pools, err := poolsNamed(tx, f.Pools)
		if err != nil {
			return err
		}
		family, err := s.catalog.Family(tx)
		if err != nil {
			return err
		}
		for _, p := range pools {
			if p.State == record.PoolInactive && len(f.Pools) == 0 {
				continue
			}
			vols, err := tx.Volumes(p.Name)
			if err != nil {
				return err
			}
			if len(f.Paths)+len(f.Keys) == 0 { // else few are selected
				out = slices.Grow(out, len(vols))
			}
			for _, v := range vols {
				if !selects(f, v) {
					continue
				}
				if err := family.Stand(v); err != nil {
					return err
				}
				out = append(out, reached(p, v.Volume))
			}
		}
		return nil
	})
	s.grow(out)
	return out, err
}

// poolsNamed gives the pools that are named, or all.
func poolsNamed(tx *store.Tx, names []string) ([]*store.Pool, error) {
	if len(names) == 0 {
		return tx.Pools()
	}
	var pools []*store.Pool
	for _, n := range names {
		p, err := catalog.Pool(tx, n)
		if err != nil {
			return nil, err
		}
		pools = append(pools, p)
	}
	return pools, nil
}

func selects(f contract.VolumeFilter, v *store.Volume) bool {
	return among(f.Paths, v.Path) && among(f.Keys, v.Key) && among(f.Formats, v.Format) && among(f.States, string(v.State))
}

// among reports whether v is one of the values, or there are none to choose
// from.
func among(values []string, v string) bool { return len(values) == 0 || slices.Contains(values, v) }

// reached is a volume with why it is of no use, if that is because its pool cannot be
// reached: what the catalog has of it is what was there before.
func reached(p *store.Pool, v record.Volume) record.Volume {
	if p.State == record.PoolUnreachable && v.Reason == "" {
		v.Reason = fmt.Sprintf("pool %q is unreachable: %s", p.Name, p.Reason)
	}
	return v
}

// grow shows the durable bytes of volumes in the making as their allocation,
// so that anybody who polls sees them grow.
func (s *Service) grow(vols []record.Volume) {
	for i, v := range vols {
		if v.Children == nil {
			vols[i].Children = []string{}
		}
		if v.State != record.VolumeBuilding || v.Job == nil {
			continue
		}
		if j, err := s.jobs.Job(strconv.FormatInt(*v.Job, 10)); err == nil { // it may have ended just now
			vols[i].Allocation = j.Progress.Done
		}
	}
}

// Volume gives one entry of the catalog with what stands on it, and what it stands on.
func (s *Service) Volume(_ context.Context, pool, volume string) (record.Volume, error) {
	return s.shown(pool, volume, catalog.Finding{})
}

// shown is Volume, of one that was just looked at, or not.
func (s *Service) shown(pool, volume string, f catalog.Finding) (record.Volume, error) {
	one := make([]record.Volume, 1)
	err := s.store.View(func(tx *store.Tx) error {
		p, v, err := known(tx, pool, volume)
		if err != nil {
			return err
		}
		catalog.AsFound(p, v, f)
		family, err := s.catalog.Family(tx)
		if err != nil {
			return err
		}
		if err := family.Stand(v); err != nil {
			return err
		}
		one[0] = reached(p, v.Volume)
		return nil
	})
	if err != nil {
		return record.Volume{}, err
	}
	s.grow(one)
	return one[0], nil
}

// Snapshots lists those of a volume.
func (s *Service) Snapshots(_ context.Context, pool, volume string) (out []record.Snapshot, err error) {
	err = s.store.View(func(tx *store.Tx) error {
		_, v, err := known(tx, pool, volume)
		if err != nil {
			return err
		}
		out, err = catalog.Snapshots(tx, v)
		return err
	})
	return out, err
}

// Snapshot gives one of a volume's.
func (s *Service) Snapshot(ctx context.Context, pool, volume, name string) (record.Snapshot, error) {
	all, err := s.Snapshots(ctx, pool, volume)
	if err != nil {
		return record.Snapshot{}, err
	}
	i := slices.IndexFunc(all, func(one record.Snapshot) bool { return one.Name == name })
	if i < 0 {
		return record.Snapshot{}, record.Errorf(record.NotFound, "volume %s has no snapshot %q", record.Quoted(pool, volume), name).
			WithHint("%s", record.Do("snapshot.list", pool+"/"+volume))
	}
	return all[i], nil
}

// PatchVolume changes properties.
func (s *Service) PatchVolume(ctx context.Context, sub contract.Submit, pool, volume string, r contract.VolumePatch) (record.Volume, error) {
	if err := sub.Caller.May(ctx, record.ChangeVolumes); err != nil {
		return record.Volume{}, err
	}
	if err := record.CheckNameOf("volume", volume); err != nil { // by the name of its file a snapshot would be taken for a volume
		return record.Volume{}, err
	}
	var out record.Volume
	err := s.store.Update(func(tx *store.Tx) error {
		p, v, err := known(tx, pool, volume)
		if err != nil {
			return err
		}
		if err := catalog.Unchanged(sub.IfMatch, v.Generation, "volume "+record.Quoted(p.Name, volume)); err != nil {
			return err
		}
		if r.Description != nil {
			v.Description = *r.Description
		}
		if r.Secret != nil {
			if err := cmp.Or(s.KnownSecret(*r.Secret), unchanging(tx, v)); err != nil {
				return err
			}
			v.Secret = *r.Secret
		}
		err = s.catalog.ChangeVolume(tx, v)
		out = v.Volume
		return err
	})
	return out, err
}

// unchanging refuses a volume that a job changes, which may be its keys.
func unchanging(tx *store.Tx, v *store.Volume) error {
	jobs, err := tx.LiveJobs()
	for _, j := range jobs {
		if slices.Contains(j.Objects, record.Object{Pool: v.Pool, Volume: v.Name, Mode: record.ModeWrite}) {
			return record.Errorf(record.Busy, "job %d (%s) changes volume %s", j.Number, j.Kind, record.Quoted(v.Pool, v.Name)).WithHint("%s", record.Do("job.wait", strconv.FormatInt(j.Number, 10)))
		}
	}
	return err
}

// known gives what the catalog has of a volume, and its pool by name or uuid.
func (s *Service) known(pool, volume string) (p *store.Pool, v *store.Volume, err error) {
	err = s.store.View(func(tx *store.Tx) error {
		p, v, err = known(tx, pool, volume)
		return err
	})
	return p, v, err
}

// known is that of a view.
func known(tx *store.Tx, pool, volume string) (*store.Pool, *store.Volume, error) {
	p, err := catalog.Pool(tx, pool)
	if err != nil {
		return nil, nil, err
	}
	v, err := catalog.Volume(tx, p.Name, volume)
	return p, v, err
}

// present gives a volume, or a snapshot by the name of its file, of an active pool,
// complete or not.
func present(tx *store.Tx, pool, volume string) (*store.Pool, *store.Volume, error) {
	if _, err := catalog.ActivePool(tx, pool); err != nil {
		return nil, nil, err
	}
	return known(tx, pool, volume)
}

// presentVolume gives a volume of an active pool, complete or not.
func presentVolume(tx *store.Tx, pool, volume string) (*store.Pool, *store.Volume, error) {
	if err := record.CheckNameOf("volume", volume); err != nil {
		return nil, nil, err
	}
	return present(tx, pool, volume)
}

// presentSnapshot gives one of a volume of an active pool, as if it were a volume.
func presentSnapshot(tx *store.Tx, pool, volume, snapshot string) (*store.Pool, *store.Volume, error) {
	if err := record.CheckSnapshot(volume, snapshot); err != nil {
		return nil, nil, record.Errorf(record.Invalid, "snapshot: %v", err)
	}
	return present(tx, pool, record.SnapshotFile(volume, snapshot))
}
