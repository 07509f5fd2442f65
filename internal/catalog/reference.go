package catalog

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"storaged/internal/ipc"
	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/store"
)

// Childless refuses a volume that others stand on, but for those that are spared.
func Childless(tx *store.Tx, v *store.Volume, spared ...string) error {
	names, err := childrenOf(tx, v)
	names = slices.DeleteFunc(names, func(name string) bool { return slices.Contains(spared, name) })
	if err != nil || len(names) == 0 {
		return err
	}
	return backing(fmt.Sprintf("volume %s backs", record.Quoted(v.Pool, record.Shown(v.Name))), names)
}

// backing is the refusal of what others stand on.
func backing(what string, names []string) error {
	e := record.Errorf(record.HasChildren, "%s %s", what, record.List(names, 5))
	isSnapshot := func(name string) bool { return strings.Contains(name, "@") }
	snapshot := slices.IndexFunc(names, isSnapshot)
	volume := slices.IndexFunc(names, func(name string) bool { return !isSnapshot(name) })
	switch {
	case snapshot < 0:
		return e.WithHint("delete those first, or make them independent of it: %s", record.Do("volume.flatten", names[volume]))
	case volume < 0: // snapshots stay as they are
		return e.WithHint("delete those first: %s", record.Do("snapshot.delete", names[snapshot]))
	}
	return e.WithHint("delete those first, a snapshot by %s; a volume can be made independent of it instead: %s",
		record.Do("snapshot.delete", names[snapshot]), record.Do("volume.flatten", names[volume]))
}

// childrenOf lists the volumes of all pools that need v: it is their backing, or
// holds some of their content.
func childrenOf(tx *store.Tx, v *store.Volume) ([]string, error) {
	all, err := tx.VolumesOnOthers()
	if err != nil {
		return nil, err
	}
	p, err := tx.Pool(v.Pool)
	if err != nil {
		return nil, err
	}
	children := []string{}
	under, err := passedFrom(&Family{tx: tx}, v) // itself, and in a loop others that have no content either: none keeps the other
	if err != nil {
		return nil, err
	}
	for _, c := range withFrozen(all) {
		name := c.Pool + "/" + record.Shown(c.Name)
		if !slices.Contains(under, name) && slices.ContainsFunc(referencesOf(c), func(r store.Reference) bool { return means(r, v, p) }) {
			children = append(children, name)
		}
	}
	return children, nil
}

// means reports whether a reference is to the volume v of the pool p. A name that
// leads to its path means it, whatever file was there when that was looked at,
// and so does one that led to its file by another path.
func means(r store.Reference, v *store.Volume, p *store.Pool) bool {
	if r.Path == "" {
		return false
	}
	real := *p
	real.Target.Path = p.Real
	if r.Path == v.Path || p.Real != "" && r.Path == locationOf(&real, v.Name).Path {
		return true
	}
	return r.Identity != "" && v.Identity != "" && sameObject(p.Type, v.Identity, r.Identity)
}

// referencesOf are the files that an image names. Of one that was read by an
// earlier version only the name of its backing is known; relative, it means the
// directory of the image.
func referencesOf(v *store.Volume) []store.Reference {
	if len(v.References) > 0 || v.Backing == "" {
		return v.References
	}
	r := store.Reference{Name: v.Backing, Path: v.Backing, Relative: !filepath.IsAbs(v.Backing)}
	if r.Relative {
		r.Path = filepath.Join(filepath.Dir(v.Path), v.Backing)
	}
	return []store.Reference{r}
}

// unneeded refuses a pool whose volumes others stand on that lie elsewhere.
func unneeded(tx *store.Tx, p *store.Pool) error {
	children, err := dependents(tx, p)
	if err != nil || len(children) == 0 {
		return err
	}
	return backing(fmt.Sprintf("volumes of pool %q back", p.Name), namesOf(children))
}

// dispensable refuses to stop a pool whose volumes others stand on that are in use:
// they could not be opened any more.
func dispensable(tx *store.Tx, p *store.Pool) error {
	children, err := dependents(tx, p)
	if err != nil {
		return err
	}
	var used []*store.Volume
	for _, c := range children {
		of, err := tx.Pool(c.Pool)
		if err != nil {
			return err
		}
		if InUse(of) {
			used = append(used, c)
		}
	}
	if len(used) == 0 {
		return nil
	}
	return record.Errorf(record.HasChildren, "volumes of pool %q back %s", p.Name, record.List(namesOf(used), 5)).
		WithHint("%s, whose volumes could not be opened any more; or %s all the same", record.Do("pool.stop", used[0].Pool), record.Do("").With("force"))
}

func namesOf(volumes []*store.Volume) (names []string) {
	for _, v := range volumes {
		names = append(names, v.Pool+"/"+record.Shown(v.Name))
	}
	return names
}

// dependents are the volumes and snapshots of other pools that stand on what is in a
// pool.
func dependents(tx *store.Tx, p *store.Pool) (out []*store.Volume, err error) {
	all, err := tx.VolumesOnOthers()
	if err != nil || len(all) == 0 {
		return nil, err
	}
	vols, err := tx.Volumes(p.Name)
	if err != nil {
		return nil, err
	}
	for _, c := range withFrozen(all) {
		if c.Pool != p.Name && slices.ContainsFunc(referencesOf(c), func(r store.Reference) bool { return within(r, p, vols) }) {
			out = append(out, c)
		}
	}
	return out, nil
}

// within reports whether a reference leads to a file of the pool, known as a
// volume or not.
func within(r store.Reference, p *store.Pool, vols []*store.Volume) bool {
	if dir := targetOf(p.Type, r.Path); r.Path != "" && (dir == p.Target.Path || p.Real != "" && dir == p.Real) {
		return true
	}
	return slices.ContainsFunc(vols, func(v *store.Volume) bool { return means(r, v, p) })
}

// ImagesNew reports whether a reading of a pool has references that the catalog
// has not, or lacks an image that the catalog has. Those of a raw volume mean
// nothing.
func ImagesNew(tx *store.Tx, p *store.Pool, items []ipc.Item) (bool, error) {
	known, err := tx.VolumesOnOthers()
	if err != nil {
		return false, err
	}
	there := map[string]bool{}
	for _, it := range items {
		there[it.Name] = true
	}
	if slices.ContainsFunc(known, func(v *store.Volume) bool { return v.Pool == p.Name && !there[v.Name] }) {
		return true, nil
	}
	for _, it := range items {
		if len(it.References) == 0 && len(it.As) == 0 || it.Ignored != "" {
			continue
		}
		v, err := entry(tx, p.Name, it.Name)
		switch {
		case errors.Is(err, store.ErrNotFound):
			return true, nil
		case err != nil:
			return false, err
		case !sameVolume(p.Type, v.Identity, it.Identity), !slices.Equal(v.References, referencesIn(asKnown(v, it))):
			return true, nil
		}
	}
	return false, nil
}

// referencesIn are those that a helper found.
func referencesIn(it ipc.Item) []store.Reference {
	var out []store.Reference
	for _, r := range it.References {
		out = append(out, store.Reference(r))
	}
	return out
}

// Removable refuses an operation that destroys what others stand on.
func Removable(tx *store.Tx, o operation.Operation) error {
	p, err := Pool(tx, o.On().Pool)
	if err != nil {
		return err
	}
	if o.On().Name == "" {
		return unneeded(tx, p)
	}
	v, err := Volume(tx, p.Name, o.On().Name)
	if err != nil {
		return err
	}
	return childless(tx, v, o)
}

// childless refuses an operation that takes away what others stand on: the volume
// that it is on, or snapshots of that.
func childless(tx *store.Tx, v *store.Volume, o operation.Operation) error {
	gone, spared, err := departing(tx, v, o)
	if err != nil {
		return err
	}
	for _, g := range gone {
		if err := Childless(tx, g, spared...); err != nil {
			return err
		}
	}
	return nil
}

// knownReferences are the references of a volume as an operation judges them.
func knownReferences(tx *store.Tx, v *store.Volume) (out []operation.Reference, err error) {
	f := &Family{tx: tx}
	for _, r := range referencesOf(v) {
		on, err := f.referred(r)
		if err != nil {
			return nil, err
		}
		plain := !strings.HasPrefix(r.Name, "json:") // such may mean more than its path
		out = append(out, operation.Reference{Name: r.Name, Data: r.Data, Relative: r.Relative, Volume: on != nil && plain})
	}
	return out, nil
}

// homes are the directories of the volumes of the pools in use.
func homes(tx *store.Tx) (dirs []string, err error) {
	pools, err := tx.Pools()
	for _, p := range pools {
		if !InUse(p) {
			continue
		}
		dirs = append(dirs, p.Target.Path)
		if p.Real != "" && p.Real != p.Target.Path {
			dirs = append(dirs, p.Real)
		}
	}
	return dirs, err
}
