package catalog

import (
	"cmp"
	"errors"
	"slices"

	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/store"
)

// Family tells which volumes stand on which. What it has looked for it knows, so that one
// is enough for a list. It is of one transaction, which changes none of that meanwhile.
type Family struct {
	tx    *store.Tx
	pools []*store.Pool              // nil: not read yet
	kin   *kin                       // nil: likewise
	files map[string][]*store.Volume // the volumes by their identities; nil: likewise
	means map[meant]*store.Volume    // what was found of references
}

// meant is by what a reference is found.
type meant struct{ path, identity string }

// kin are the names of volumes and snapshots that name other files, by those: by the paths
// of the files, and by their identities.
type kin struct {
	version      int // of the store, of which they are
	paths, files map[string][]string
}

// Family gives that of a transaction that only reads.
func (c *Catalog) Family(tx *store.Tx) (f *Family, err error) {
	f = &Family{tx: tx, files: map[string][]*store.Volume{}}
	c.mu.Lock()
	f.kin = c.kin
	c.mu.Unlock()
	if f.kin == nil || f.kin.version != tx.Version() {
		if f.kin, err = kinOf(tx); err != nil {
			return nil, err
		}
		c.mu.Lock()
		c.kin = f.kin
		c.mu.Unlock()
	}
	return f, nil
}

func kinOf(tx *store.Tx) (*kin, error) {
	all, err := tx.VolumesOnOthers()
	if err != nil {
		return nil, err
	}
	k := &kin{version: tx.Version(), paths: map[string][]string{}, files: map[string][]string{}}
	for _, c := range withFrozen(all) {
		name := c.Pool + "/" + record.Shown(c.Name)
		for _, r := range referencesOf(c) {
			if r.Path == "" {
				continue
			}
			k.paths[r.Path] = append(k.paths[r.Path], name)
			if r.Identity != "" {
				k.files[r.Identity] = append(k.files[r.Identity], name)
			}
		}
	}
	return k, nil
}

// children are those of a volume, as childrenOf has them.
func (f *Family) children(v *store.Volume) ([]string, error) {
	p, err := f.pool(v.Pool)
	if err != nil {
		return nil, err
	}
	names := slices.Clone(f.kin.paths[v.Path])
	if p.Real != "" && p.Real != p.Target.Path {
		real := *p
		real.Target.Path = p.Real
		names = append(names, f.kin.paths[locationOf(&real, v.Name).Path]...)
	}
	if names = append(names, f.kin.files[v.Identity]...); len(names) == 0 {
		return []string{}, nil
	}
	under, err := passedFrom(f, v)
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	return slices.DeleteFunc(slices.Compact(names), func(name string) bool { return slices.Contains(under, name) }), nil
}

// pool is one of the pools.
func (f *Family) pool(name string) (*store.Pool, error) {
	pools, err := f.allPools()
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(pools, func(p *store.Pool) bool { return p.Name == name })
	if i < 0 {
		return nil, store.ErrNotFound
	}
	return pools[i], nil
}

func (f *Family) allPools() (_ []*store.Pool, err error) {
	if f.pools == nil {
		f.pools, err = f.tx.Pools()
	}
	return f.pools, err
}

// referred is the volume that a reference is to, nil if that is none.
func (f *Family) referred(r store.Reference) (v *store.Volume, err error) {
	if r.Path == "" {
		return nil, nil
	}
	v, known := f.means[meant{r.Path, r.Identity}]
	if known {
		return v, nil
	}
	if v, err = f.find(r); err == nil {
		if f.means == nil {
			f.means = map[meant]*store.Volume{}
		}
		f.means[meant{r.Path, r.Identity}] = v
	}
	return v, err
}

// find looks for it.
func (f *Family) find(r store.Reference) (*store.Volume, error) {
	pools, err := f.allPools()
	if err != nil {
		return nil, err
	}
	for _, p := range pools {
		v, err := referredIn(f.tx, p, r)
		if v != nil || err != nil {
			return v, err
		}
	}
	if r.Identity == "" {
		return nil, nil
	}
	same, err := f.sameFile(r.Identity)
	if err != nil || len(same) != 1 { // of a store that several pools have it is not known which
		return nil, err
	}
	return same[0], nil
}

// sameFile are the volumes of an identity. Of a list all are looked for at once.
func (f *Family) sameFile(identity string) ([]*store.Volume, error) {
	if f.files == nil {
		return f.tx.VolumesOfIdentity(identity)
	}
	if len(f.files) == 0 {
		all, err := f.tx.Volumes("")
		if err != nil {
			return nil, err
		}
		for _, v := range all {
			f.files[v.Identity] = append(f.files[v.Identity], v)
		}
	}
	return f.files[identity], nil
}

// Stand says in the record of a volume what stands on it and what it stands on, or why
// that cannot be opened.
func (f *Family) Stand(v *store.Volume) (err error) {
	if v.Children, err = f.children(v); err != nil {
		return err
	}
	d, err := descend(f, v)
	var refusal *record.Error
	if errors.As(err, &refusal) {
		v.Problem = cmp.Or(v.Problem, refusal.Message)
		return nil
	}
	if err != nil {
		return err
	}
	depth := depthOf(d.layers)
	v.Depth = &depth
	if i := slices.IndexFunc(d.layers, func(l operation.Layer) bool { return !l.Data }); i >= 0 {
		l := d.layers[i]
		v.Parent = &record.Parent{Pool: l.Pool, Volume: record.Shown(l.Name), Format: l.Format, Path: l.Path}
	}
	return f.bar(v, d.barred)
}

// bar says that a volume cannot be opened because of a pool that it stands on. Where its
// own pool is not in use that is so of all there, and no problem of the volume.
func (f *Family) bar(v *store.Volume, barred error) error {
	var refusal *record.Error
	if barred == nil || !errors.As(barred, &refusal) {
		return barred
	}
	p, err := f.pool(v.Pool)
	if err == nil && usable(p) == nil {
		v.Problem = cmp.Or(v.Problem, refusal.Message)
	}
	return err
}
