package service

import (
	"cmp"
	"context"
	"slices"

	"storaged/internal/quantity"
	"storaged/internal/record"
	"storaged/internal/store"
)

// Volumes lists the catalogue's entries of active pools, by pool and name.
func (s *Service) Volumes(_ context.Context, f VolumeFilter) ([]record.Volume, error) {
	out := []record.Volume{}
	err := s.store.View(func(tx *store.Tx) error {
		pools, err := poolsOf(tx, f.Pools)
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
			for _, v := range vols {
				if selects(f, v) {
					out = append(out, v.Volume)
				}
			}
		}
		return nil
	})
	s.grow(out)
	return out, err
}

// poolsOf gives the pools that are named, or all.
func poolsOf(tx *store.Tx, names []string) ([]*store.Pool, error) {
	if len(names) == 0 {
		return tx.Pools()
	}
	var pools []*store.Pool
	for _, n := range names {
		p, err := findPool(tx, n)
		if err != nil {
			return nil, err
		}
		pools = append(pools, p)
	}
	return pools, nil
}

func selects(f VolumeFilter, v *store.Volume) bool {
	return among(f.Paths, v.Path) && among(f.Keys, v.Key) && among(f.Formats, v.Format) && among(f.States, string(v.State))
}

// among reports whether v is one of the values, or there are none to choose
// from.
func among(values []string, v string) bool { return len(values) == 0 || slices.Contains(values, v) }

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
		if j, err := s.jobs.Job(bytesArg(*v.Job)); err == nil && !j.State.Terminal() {
			vols[i].Allocation = j.Progress.Done
		}
	}
}

// Volume gives one entry of the catalogue with what stands on it.
func (s *Service) Volume(_ context.Context, pool, volume string) (record.Volume, error) {
	var v *store.Volume
	err := s.store.View(func(tx *store.Tx) error {
		p, err := findPool(tx, pool)
		if err != nil {
			return err
		}
		if v, err = findVolume(tx, p.Name, volume); err != nil {
			return err
		}
		v.Children, err = childrenOf(tx, v)
		return err
	})
	if err != nil {
		return record.Volume{}, err
	}
	one := []record.Volume{v.Volume}
	s.grow(one)
	return one[0], nil
}

// PatchVolume changes properties.
func (s *Service) PatchVolume(_ context.Context, sub Submit, pool, volume string, r VolumePatch) (record.Volume, error) {
	var out record.Volume
	err := s.store.Update(func(tx *store.Tx) error {
		p, err := findPool(tx, pool)
		if err != nil {
			return err
		}
		v, err := findVolume(tx, p.Name, volume)
		if err != nil {
			return err
		}
		if err := unchanged(sub, v.Generation, "volume "+quoted(p.Name, volume)); err != nil {
			return err
		}
		if r.Description != nil {
			v.Description = *r.Description
		}
		v.Generation++
		keepSum(v)
		out = v.Volume
		return s.keeper.putVolume(tx, "volume.changed", v)
	})
	return out, err
}

// CreateVolume makes a new volume.
func (s *Service) CreateVolume(ctx context.Context, sub Submit, pool string, r VolumeCreate) (Started, error) {
	if err := checkCreate(&r); err != nil {
		return Started{}, err
	}
	return s.resolve(ctx, sub, r.JobOptions, func(tx *store.Tx) (work, error) {
		p, err := activePool(tx, pool)
		if err != nil {
			return work{}, err
		}
		if err := creatable(p, r.Format); err != nil {
			return work{}, err
		}
		if err := freeName(tx, p, r.Name); err != nil {
			return work{}, err
		}
		w := volumeWork(p, record.VolumeCreate, r.Name)
		w.Format, w.Capacity, w.Allocation = r.Format, r.Capacity, allocationOf(&r)
		w.Promise = w.Allocation
		return w, nil
	})
}

// checkCreate checks what needs no catalogue and fills in defaults.
func checkCreate(r *VolumeCreate) error {
	if err := checkName("volume", r.Name); err != nil {
		return err
	}
	r.Fill()
	switch {
	case r.Backing != "":
		return record.Errorf(record.Unsupported, "volumes with backing are not supported yet")
	case r.From != "":
		return record.Errorf(record.Unsupported, "a file is not read by its path: the daemon opens nothing for its clients").
			WithHint("PUT …/volumes/%s/content?create=true sends its content, POST …/content?create=true&fd=1 hands it over open", r.Name)
	case len(r.Options) > 0:
		return record.Errorf(record.Invalid, "format %s has no options", r.Format)
	case r.Capacity <= 0:
		return record.Errorf(record.Invalid, "capacity must be more than 0 bytes, not %d", r.Capacity)
	case allocationOf(r) > r.Capacity:
		return record.Errorf(record.Invalid, "allocation of %s is more than the capacity of %s", quantity.FormatBoth(allocationOf(r)), quantity.FormatBoth(r.Capacity))
	}
	return nil
}

// creatable refuses a format that the pool's type cannot make.
func creatable(p *store.Pool, format string) error {
	props, err := properties(p.Type)
	if err != nil {
		return err
	}
	if !slices.Contains(props.Formats, format) {
		return record.Errorf(record.Unsupported, "format %q cannot be made in pool %q of type %s; it can make %s",
			format, p.Name, p.Type, list(props.Formats, 10))
	}
	return nil
}

// volumeWork is work on one volume of a pool.
func volumeWork(p *store.Pool, k record.Kind, name string) work {
	return work{Kind: k, Pool: p.Name, PoolUUID: p.UUID, Volume: name, Type: p.Type, Path: volumePath(p, name)}
}

// destination is the pool by that name, which is "" for from itself.
func destination(tx *store.Tx, from *store.Pool, name string) (*store.Pool, error) {
	if name == "" {
		return from, nil
	}
	return activePool(tx, name)
}

// into says where a volume goes to.
func (w *work) into(p *store.Pool, name string) {
	w.TargetPool, w.TargetUUID, w.TargetName, w.TargetType, w.TargetPath = p.Name, p.UUID, name, p.Type, volumePath(p, name)
}

// CloneVolume copies a volume under another name, into another pool if asked.
func (s *Service) CloneVolume(ctx context.Context, sub Submit, pool, volume string, r VolumeClone) (Started, error) {
	if err := checkClone(&r); err != nil {
		return Started{}, err
	}
	return s.resolve(ctx, sub, r.JobOptions, func(tx *store.Tx) (work, error) {
		from, v, err := wholeVolume(tx, sub, pool, volume)
		if err != nil {
			return work{}, err
		}
		to, err := destination(tx, from, r.Pool)
		if err != nil {
			return work{}, err
		}
		if err := freeName(tx, to, r.Name); err != nil {
			return work{}, err
		}
		if err := copyable(v, to); err != nil {
			return work{}, err
		}
		return cloneWork(from, to, v, r)
	})
}

func cloneWork(from, to *store.Pool, v *store.Volume, r VolumeClone) (work, error) {
	w := volumeWork(from, record.VolumeClone, v.Name)
	w.into(to, r.Name)
	w.Format, w.Reflink, w.Sparse = v.Format, r.Reflink, r.Sparse
	w.Capacity, w.Allocation = v.Capacity, v.Allocation
	switch {
	case r.Format != "" && r.Format != v.Format:
		return work{}, record.Errorf(record.Unsupported, "converting %q to %q while cloning is not supported yet", v.Format, r.Format)
	case v.Format != record.FormatRaw && r.Size != 0:
		return work{}, record.Errorf(record.Unsupported, "a clone of format %q keeps its size", v.Format)
	case r.Size != 0 && r.Size < v.Capacity:
		return work{}, record.Errorf(record.Invalid, "size of %s is less than the source's capacity of %s", quantity.FormatBoth(r.Size), quantity.FormatBoth(v.Capacity))
	case r.Size != 0:
		w.Capacity = r.Size
	}
	if !r.Sparse {
		w.Promise = promiseOf(v, w.Capacity)
		w.Allocation = max(w.Allocation, w.Promise)
	}
	if v.Format != record.FormatRaw {
		w.Capacity = 0 // the file is copied as it is
	}
	return w, nil
}

// promiseOf is how many bytes of a clone of that capacity shall have blocks: as
// many as of its source, and all if the source was to have all.
func promiseOf(v *store.Volume, capacity int64) int64 {
	if v.Promised > 0 && v.Promised >= v.Capacity {
		return capacity
	}
	return v.Promised
}

func checkClone(r *VolumeClone) error {
	if err := checkName("volume", r.Name); err != nil {
		return err
	}
	r.Fill()
	switch {
	case r.Linked:
		return record.Errorf(record.Unsupported, "linked clones are not supported yet")
	case !slices.Contains([]string{"auto", "always", "never"}, r.Reflink):
		return record.Errorf(record.Invalid, "reflink is auto, always or never, not %q", r.Reflink)
	case r.Sparse && r.Reflink == "always":
		return record.Errorf(record.Invalid, "a clone that shares its blocks cannot leave zeros out: sparse and reflink always exclude each other")
	case r.Size < 0:
		return record.Errorf(record.Invalid, "size must not be negative: %d", r.Size)
	}
	return nil
}

// wholeVolume gives a volume of an active pool whose content can be relied on.
func wholeVolume(tx *store.Tx, sub Submit, pool, volume string) (*store.Pool, *store.Volume, error) {
	p, v, err := presentVolume(tx, sub, pool, volume)
	if err != nil {
		return nil, nil, err
	}
	return p, v, whole(tx, v)
}

// presentVolume gives a volume of an active pool, whole or not.
func presentVolume(tx *store.Tx, sub Submit, pool, volume string) (*store.Pool, *store.Volume, error) {
	if err := checkName("volume", volume); err != nil {
		return nil, nil, err
	}
	p, err := activePool(tx, pool)
	if err != nil {
		return nil, nil, err
	}
	v, err := findVolume(tx, p.Name, volume)
	if err != nil {
		return nil, nil, err
	}
	return p, v, unchanged(sub, v.Generation, "volume "+quoted(p.Name, volume))
}

// ResizeVolume changes a volume's capacity.
func (s *Service) ResizeVolume(ctx context.Context, sub Submit, pool, volume string, r VolumeResize) (Started, error) {
	return s.resolve(ctx, sub, r.JobOptions, func(tx *store.Tx) (work, error) {
		p, v, err := wholeVolume(tx, sub, pool, volume)
		if err != nil {
			return work{}, err
		}
		w := volumeWork(p, record.VolumeResize, v.Name)
		w.Format, w.Capacity, w.Allocate, w.Shrink = v.Format, r.Capacity, r.Allocate, r.Capacity < v.Capacity
		if r.Allocate {
			w.Allocation = max(0, r.Capacity-v.Capacity) // what is there already gets no more blocks
		}
		return w, resizable(tx, v, r)
	})
}

func resizable(tx *store.Tx, v *store.Volume, r VolumeResize) error {
	switch {
	case r.Capacity <= 0:
		return record.Errorf(record.Invalid, "capacity must be more than 0 bytes, not %d", r.Capacity)
	case v.Format != record.FormatRaw:
		return record.Errorf(record.Unsupported, "resizing volumes of format %q is not supported yet", v.Format)
	case r.Capacity < v.Capacity && !r.Shrink:
		return record.Errorf(record.Invalid, "capacity of %s is less than the present %s; what lies beyond would be lost", quantity.FormatBoth(r.Capacity), quantity.FormatBoth(v.Capacity)).
			WithHint("%s does it", record.Do("").With("shrink"))
	case r.Capacity < v.Capacity && r.Allocate:
		return record.Errorf(record.Invalid, "capacity of %s is less than the present %s: nothing is added that could be allocated", quantity.FormatBoth(r.Capacity), quantity.FormatBoth(v.Capacity))
	case r.Capacity < v.Capacity:
		return childless(tx, v)
	}
	return nil
}

// WipeVolume overwrites a volume's content.
func (s *Service) WipeVolume(ctx context.Context, sub Submit, pool, volume string, r VolumeWipe) (Started, error) {
	r.Fill()
	return s.resolve(ctx, sub, r.JobOptions, func(tx *store.Tx) (work, error) {
		p, v, err := settledVolume(tx, sub, pool, volume)
		if err != nil {
			return work{}, err
		}
		w := volumeWork(p, record.VolumeWipe, v.Name)
		w.Format, w.Capacity, w.Algorithm, w.Verify, w.AcceptLimits = v.Format, v.Capacity, r.Algorithm, r.Verify, r.AcceptLimits
		return w, wipeable(p, v, r.Algorithm)
	})
}

func wipeable(p *store.Pool, v *store.Volume, algorithm string) error {
	props, err := properties(p.Type)
	if err != nil {
		return err
	}
	if !slices.Contains(props.Algorithms, algorithm) {
		return record.Errorf(record.Unsupported, "pools of type %s cannot wipe by algorithm %q; they can by %s",
			p.Type, algorithm, list(props.Algorithms, 20))
	}
	return erasable(v)
}

// TrimVolume gives back the blocks of what reads as zeros in a volume.
func (s *Service) TrimVolume(ctx context.Context, sub Submit, pool, volume string, r VolumeTrim) (Started, error) {
	return s.resolve(ctx, sub, r.JobOptions, func(tx *store.Tx) (work, error) {
		p, v, err := wholeVolume(tx, sub, pool, volume)
		if err != nil {
			return work{}, err
		}
		w := volumeWork(p, record.VolumeTrim, v.Name)
		w.Capacity, w.GiveUpAllocation = v.Capacity, r.GiveUpAllocation
		return w, w.trimmable(p, v)
	})
}

// trimmable refuses a type of pool that cannot give blocks back, and a volume
// that was promised to have them.
func (w work) trimmable(p *store.Pool, v *store.Volume) error {
	props, err := properties(p.Type)
	switch {
	case err != nil:
		return err
	case !slices.Contains(props.VolVerbs, "trim"):
		return record.Errorf(record.Unsupported, "pools of type %s cannot trim volumes; they can %s", p.Type, list(props.VolVerbs, 20))
	case v.Promised > 0 && !w.GiveUpAllocation:
		return record.Errorf(record.WrongState, "volume %s is to have %s allocated: what a trim gives back of that might not be there when it is needed",
			quoted(v.Pool, v.Name), quantity.FormatBoth(v.Promised)).WithHint("%s does it", record.Do("").With("give-up-allocation"))
	}
	return nil
}

// VerifyVolume reads a volume and gives its checksum.
func (s *Service) VerifyVolume(ctx context.Context, sub Submit, pool, volume string, r VolumeVerify) (Started, error) {
	if r.Checksum != "" {
		algorithm, want, err := record.ParseContentChecksum(r.Checksum)
		if err != nil {
			return Started{}, record.Errorf(record.Invalid, "%v", err)
		}
		r.Checksum = cmp.Or(want, algorithm)
	}
	return s.resolve(ctx, sub, r.JobOptions, func(tx *store.Tx) (work, error) {
		p, v, err := wholeVolume(tx, sub, pool, volume)
		if err != nil {
			return work{}, err
		}
		w := volumeWork(p, record.VolumeVerify, v.Name)
		w.Capacity, w.Checksum = v.Capacity, r.Checksum
		return w, nil
	})
}

// DeleteVolume deletes a volume, wiping it first if asked.
func (s *Service) DeleteVolume(ctx context.Context, sub Submit, pool, volume string, r VolumeDelete) (Started, error) {
	return s.resolve(ctx, sub, r.JobOptions, func(tx *store.Tx) (work, error) {
		p, v, err := settledVolume(tx, sub, pool, volume)
		if err != nil {
			return work{}, err
		}
		w := volumeWork(p, record.VolumeDelete, v.Name)
		w.Format, w.Capacity, w.Algorithm, w.AcceptLimits = v.Format, v.Capacity, r.Wipe, r.AcceptLimits
		if r.Wipe == "" {
			if r.AcceptLimits {
				return w, record.Errorf(record.Invalid, "accept_limits is about a wipe, and there is to be none")
			}
			return w, nil
		}
		return w, wipeable(p, v, r.Wipe)
	})
}

// settledVolume gives a volume that may be destroyed: no job is making it and
// nothing stands on it.
func settledVolume(tx *store.Tx, sub Submit, pool, volume string) (*store.Pool, *store.Volume, error) {
	p, v, err := presentVolume(tx, sub, pool, volume)
	if err != nil {
		return nil, nil, err
	}
	if v.State == record.VolumeBuilding {
		return nil, nil, whole(tx, v)
	}
	return p, v, childless(tx, v)
}

// allocationOf is how many bytes a new volume is to have allocated, once its
// defaults are filled in.
func allocationOf(r *VolumeCreate) int64 {
	if r.Allocation.Full {
		return r.Capacity
	}
	return r.Allocation.Bytes
}
