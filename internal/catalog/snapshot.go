package catalog

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"storaged/internal/ipc"
	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/store"
)

// A snapshot belongs to its volume's entry. Where it is opened, or others stand on
// it, it is as if it were a volume by the name of its file.

// entry is the volume of that name, or the snapshot, as if it were one.
func entry(tx *store.Tx, pool, name string) (*store.Volume, error) {
	volume, snapshot, ok := record.ParseSnapshot(name)
	if !ok {
		return tx.Volume(pool, name)
	}
	v, err := tx.Volume(pool, volume)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(v.Frozen, named(snapshot))
	if i < 0 {
		return nil, store.ErrNotFound
	}
	return asVolume(v, v.Frozen[i]), nil
}

func named(snapshot string) func(store.Snapshot) bool {
	return func(s store.Snapshot) bool { return s.Name == snapshot }
}

// asVolume is a snapshot as if it were a volume.
func asVolume(v *store.Volume, s store.Snapshot) *store.Volume {
	return &store.Volume{
		Identity: s.Identity, ChangeNS: s.ChangeNS, References: s.References, Promised: v.Promised, Arrived: v.Arrived,
		Volume: record.Volume{
			Pool: v.Pool, Name: record.SnapshotFile(v.Name, s.Name), Path: s.Path, Key: s.Path, Type: v.Type, Format: s.Format,
			Capacity: s.Capacity, Allocation: s.Allocation, Backing: s.Backing, Problem: s.Problem, State: record.VolumeReady,
			Origin: v.Origin, CreatedBy: s.CreatedBy, Generation: v.Generation, Observed: v.Observed, Secret: cmp.Or(s.Secret, v.Secret),
		},
	}
}

// withFrozen adds the snapshots of volumes to them, in order.
func withFrozen(volumes []*store.Volume) (all []*store.Volume) {
	for _, v := range volumes {
		all = append(all, v)
		for _, s := range v.Frozen {
			all = append(all, asVolume(v, s))
		}
	}
	return all
}

// identityOfSnapshot is which file the snapshot is known as.
func identityOfSnapshot(v *store.Volume, name string) string {
	if i := slices.IndexFunc(v.Frozen, named(name)); i >= 0 {
		return v.Frozen[i].Identity
	}
	return ""
}

// Snapshots are those of a volume, with what stands on them.
func Snapshots(tx *store.Tx, v *store.Volume) ([]record.Snapshot, error) {
	out := []record.Snapshot{}
	for _, s := range v.Frozen {
		children, err := ChildrenOf(tx, asVolume(v, s))
		if err != nil {
			return nil, err
		}
		public := s.Snapshot
		public.Children = children
		out = append(out, public)
	}
	return out, nil
}

// setFrozen gives a volume its snapshots, by name.
func setFrozen(v *store.Volume, all []store.Snapshot) {
	slices.SortFunc(all, func(a, b store.Snapshot) int { return strings.Compare(a.Name, b.Name) })
	v.Frozen, v.Snapshots = all, nil
	for _, s := range all {
		v.Snapshots = append(v.Snapshots, s.Name)
	}
}

// frozenAs is a snapshot as a helper found it. What is in its header counts as that
// of the volume does.
func frozenAs(v *store.Volume, name, format string, it ipc.Item) store.Snapshot {
	s := store.Snapshot{Secret: v.Secret, Snapshot: record.Snapshot{Pool: v.Pool, Volume: v.Name, Name: name, Path: it.Path, Format: format}}
	seeFrozen(&s, it)
	return s
}

func seeFrozen(s *store.Snapshot, it ipc.Item) {
	it = asKnown(&store.Volume{Volume: record.Volume{Format: s.Format}}, it)
	s.Identity, s.ChangeNS, s.Allocation, s.Path = it.Identity, it.ChangeNS, it.Allocation, it.Path
	switch {
	case s.Format == record.FormatRaw:
		s.Capacity, s.Backing, s.References, s.Problem = it.Size, "", nil, ""
	case it.Format != "":
		s.Capacity, s.Backing, s.References, s.Problem = it.Capacity, it.Backing, referencesIn(it), it.Problem
	}
}

// forbidOverlay tells an operation why no image can stand on what it would make one
// on: the rules are those for every volume that is to back another.
func forbidOverlay(tx *store.Tx, o operation.Overlaying, pool string) error {
	_, err := chainUnder(tx, pool, o.Backing())
	var refusal *record.Error
	if !errors.As(err, &refusal) {
		return err
	}
	o.ForbidOverlay(refusal.Message)
	return nil
}

// endPreserving takes the snapshot up that was made.
func endPreserving(c *Catalog, tx *store.Tx, e end) error {
	v, err := tx.Volume(e.On().Pool, e.On().Name)
	if err != nil || !e.job.Granted {
		return IgnoreNotFound(err)
	}
	was := *v
	c.observe(v, e)
	o := e.Operation.(*operation.SnapshotCreate)
	if e.ok() && e.report.Snapshot != nil {
		s := frozenAs(v, o.Snapshot, o.Format, *e.report.Snapshot)
		if e.report.Snapshot.Format == "" { // who settled the job read no header: it is what the volume was
			s.Capacity, s.Backing, s.References, s.Problem = was.Capacity, was.Backing, was.References, was.Problem
		}
		s.Created, s.CreatedBy = new(c.now()), &e.job.Number
		setFrozen(v, append(slices.Clone(v.Frozen), s))
	}
	v.Generation++
	keepSum(v)
	return c.putVolume(tx, "volume.changed", v)
}

// endDiscarding forgets a snapshot that is gone.
func endDiscarding(c *Catalog, tx *store.Tx, e end) error {
	v, err := tx.Volume(e.On().Pool, e.On().Name)
	if err != nil || !e.job.Granted {
		return IgnoreNotFound(err)
	}
	e.describe(v)
	if !e.ok() {
		return nil
	}
	setFrozen(v, slices.DeleteFunc(slices.Clone(v.Frozen), named(e.Operation.(*operation.SnapshotDelete).Snapshot)))
	v.Generation++
	keepSum(v)
	return c.putVolume(tx, "volume.changed", v)
}

// endReverting makes a volume what its snapshot is. Until that has its name it is what
// it was.
func endReverting(c *Catalog, tx *store.Tx, e end) error {
	v, err := tx.Volume(e.On().Pool, e.On().Name)
	if err != nil || !e.job.Granted {
		return IgnoreNotFound(err)
	}
	capacity := v.Capacity
	if e.ok() {
		o := e.Operation.(*operation.SnapshotRestore)
		v.Format = o.Format
		if i := slices.IndexFunc(v.Frozen, named(o.Snapshot)); i >= 0 {
			s := v.Frozen[i]
			v.Capacity, v.Backing, v.References, v.Problem = s.Capacity, s.Backing, s.References, s.Problem
			v.Secret = cmp.Or(s.Secret, v.Secret)
		}
		v.State, v.Job, v.Begun, v.Checksum, v.Writer = record.VolumeReady, nil, nil, nil, e.job.Number
		v.Promised = min(v.Promised, v.Capacity)
	}
	if r := e.report; !e.ok() && r != nil && r.Volume != nil && r.Volume.Format != v.Format {
		r.Volume.Format = "" // its header was read as one in the snapshot's format, which it is not in
	}
	c.observe(v, e)
	v.Generation++
	if err := c.putVolume(tx, "volume.changed", v); err != nil {
		return err
	}
	return c.provision(tx, v.Pool, v.Capacity-capacity)
}

// volumesAndSnapshots parts what was found in a pool.
func volumesAndSnapshots(items []ipc.Item) (volumes []ipc.Item, snapshots map[string][]ipc.Item) {
	snapshots = map[string][]ipc.Item{}
	for _, it := range items {
		volume, _, ok := record.ParseSnapshot(it.Name)
		if !ok {
			volumes = append(volumes, it)
		} else if it.Ignored == "" {
			snapshots[volume] = append(snapshots[volume], it)
		}
	}
	return volumes, snapshots
}

// kept are the volumes that are newer than the scan, or somebody's.
func (s scan) kept(known []*store.Volume) map[string]bool {
	kept := map[string]bool{}
	for _, v := range known {
		kept[v.Name] = s.stale(v)
	}
	return kept
}

// freeze takes over which snapshots were found, by volume, but of those that stay as
// they are. One of no volume is warned of.
func (s scan) freeze(e end, kept map[string]bool, found map[string][]ipc.Item) error {
	volumes, err := s.tx.Volumes(s.pool.Name)
	if err != nil {
		return err
	}
	for _, v := range volumes {
		items := found[v.Name]
		delete(found, v.Name)
		if len(items) == 0 && len(v.Frozen) == 0 || kept[v.Name] || s.locked(v.Name) {
			continue
		}
		if err := s.freezeOne(v, items); err != nil {
			return err
		}
	}
	for volume, items := range found {
		s.pool.Ignored += len(items)
		e.job.Warnings = append(e.job.Warnings, fmt.Sprintf("ignored %s: there is no volume %q", record.Plural(len(items), "snapshot"), volume))
	}
	return nil
}

// freezeOne takes over which snapshots of a volume were found, but of those that a job
// has.
func (s scan) freezeOne(v *store.Volume, items []ipc.Item) error {
	held := func(name string) bool { return s.locked(record.Shown(record.SnapshotFile(v.Name, name))) }
	all := slices.DeleteFunc(slices.Clone(v.Frozen), func(f store.Snapshot) bool {
		there := slices.ContainsFunc(items, func(it ipc.Item) bool {
			return it.Name == record.SnapshotFile(v.Name, f.Name) && sameVolume(s.pool.Type, f.Identity, it.Identity)
		})
		return !there && !held(f.Name)
	})
	for _, it := range items {
		_, name, _ := record.ParseSnapshot(it.Name)
		switch i := slices.IndexFunc(all, named(name)); {
		case held(name):
		case i >= 0:
			seeFrozen(&all[i], it)
		default:
			all = append(all, frozenAs(v, name, v.Format, it))
		}
	}
	names, was := v.Snapshots, v.Frozen
	setFrozen(v, all)
	switch {
	case !slices.Equal(names, v.Snapshots):
		v.Generation++
		keepSum(v)
		return s.putVolume(s.tx, "volume.changed", v)
	case reflect.DeepEqual(was, all):
		return nil
	}
	return s.tx.PutVolume(v)
}
