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
	i := slices.IndexFunc(v.Frozen, withName(snapshot))
	if i < 0 {
		return nil, store.ErrNotFound
	}
	return asVolume(v, v.Frozen[i]), nil
}

func withName(snapshot string) func(store.Snapshot) bool {
	return func(s store.Snapshot) bool { return s.Name == snapshot }
}

// asVolume is a snapshot as if it were a volume.
func asVolume(v *store.Volume, s store.Snapshot) *store.Volume {
	return &store.Volume{
		Identity: s.Identity, ChangeNS: s.ChangeNS, References: s.References, Promised: v.Promised, Arrived: v.Arrived,
		Volume: record.Volume{
			Pool: v.Pool, Name: record.SnapshotFile(v.Name, s.Name), Path: s.Path, Key: s.Path, Type: v.Type, Format: s.Format,
			Capacity: s.Capacity, Allocation: s.Allocation, Backing: s.Backing, Problem: s.Problem, InternalSnapshots: s.Internal, State: record.VolumeReady,
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
	if i := slices.IndexFunc(v.Frozen, withName(name)); i >= 0 {
		return v.Frozen[i].Identity
	}
	return ""
}

// members are a volume and its snapshots.
func members(v *store.Volume) []*store.Volume { return withFrozen([]*store.Volume{v}) }

// standsOn reports whether an image is on another of its pool.
func standsOn(c, on *store.Volume, p *store.Pool) bool {
	return c.Name != on.Name && slices.ContainsFunc(referencesOf(c), func(r store.Reference) bool { return means(r, on, p) })
}

// topDown are the snapshots of a volume, each before those that it stands on.
func topDown(p *store.Pool, v *store.Volume) (all []operation.Layer) {
	left := members(v)[1:]
	for len(left) > 0 {
		free := slices.IndexFunc(left, func(s *store.Volume) bool {
			return !slices.ContainsFunc(left, func(c *store.Volume) bool { return standsOn(c, s, p) })
		})
		next := max(free, 0) // in a loop none has a content
		all = append(all, layerOf(p, left[next], false))
		left = slices.Delete(left, next, next+1)
	}
	return all
}

// above are the volume and its snapshots that stand on a snapshot of it, and can
// stand on another image instead.
func above(tx *store.Tx, p *store.Pool, v *store.Volume, snapshot string) (all []operation.Layer, err error) {
	s, err := Volume(tx, v.Pool, record.SnapshotFile(v.Name, snapshot))
	if err != nil {
		return nil, err
	}
	for _, m := range members(v) {
		split := slices.ContainsFunc(referencesOf(m), func(r store.Reference) bool { return r.Data })
		if operation.Detachable(m.Format) && !split && standsOn(m, s, p) {
			all = append(all, layerOf(p, m, false))
		}
	}
	return all, nil
}

// restack looks up again how the snapshots stand that an operation takes away: a
// restore may have changed that since the job was asked for. What has come to be there
// since is not held.
func restack(tx *store.Tx, o operation.Operation) error {
	d, whole := o.(*operation.Delete)
	s, one := o.(*operation.SnapshotDelete)
	if !one && !(whole && d.WithSnapshots) {
		return nil
	}
	p, err := Pool(tx, o.On().Pool)
	if err != nil {
		return err
	}
	v, err := Volume(tx, p.Name, o.On().Name)
	if err != nil {
		return err
	}
	if whole {
		now := topDown(p, v)
		if err := heldAmong(d.Snapshots, now); err != nil {
			return err
		}
		d.Snapshots = now
		return nil
	}
	now, err := above(tx, p, v, s.Snapshot)
	if err != nil {
		return err
	}
	if err := heldAmong(s.Above, now); err != nil {
		return err
	}
	if s.Above = now; len(now) == 0 {
		s.Chain = operation.Chain{}
	}
	return nil
}

// heldAmong refuses what is there now and was not when the job was asked for.
func heldAmong(asked, now []operation.Layer) error {
	for _, l := range now {
		if !slices.ContainsFunc(asked, func(was operation.Layer) bool { return was.Pool == l.Pool && was.Name == l.Name }) {
			return record.Errorf(record.Changed, "%s would have to be changed too, and that was not so when the job was asked for", record.Quoted(l.Pool, record.Shown(l.Name))).
				WithHint("start the work anew")
		}
	}
	return nil
}

// departing are the volume and snapshots that an operation takes away, and the names of
// what may stand on them: it goes with them, or is made independent before.
func departing(tx *store.Tx, v *store.Volume, o operation.Operation) (gone []*store.Volume, spared []string, err error) {
	gone = []*store.Volume{v}
	switch o := o.(type) {
	case *operation.Delete:
		if o.WithSnapshots {
			gone = members(v)
		}
		spared = namesOf(gone)
	case *operation.SnapshotDelete:
		s, err := entry(tx, v.Pool, record.SnapshotFile(v.Name, o.Snapshot))
		if err != nil {
			return nil, nil, IgnoreNotFound(err) // which the operation refuses
		}
		gone = []*store.Volume{s}
		for _, l := range o.Above {
			spared = append(spared, l.Pool+"/"+record.Shown(l.Name))
		}
	}
	return gone, spared, nil
}

// Snapshots are those of a volume, with what stands on them.
func Snapshots(tx *store.Tx, v *store.Volume) ([]record.Snapshot, error) {
	out := []record.Snapshot{}
	for _, s := range v.Frozen {
		children, err := childrenOf(tx, asVolume(v, s))
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
		s.Capacity, s.Backing, s.References, s.Problem, s.Internal = it.Size, "", nil, "", 0
	case it.Format != "":
		s.Capacity, s.Backing, s.References, s.Problem, s.Internal = it.Capacity, it.Backing, referencesIn(it), it.Problem, it.Internal
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
			s.Capacity, s.Backing, s.References, s.Problem, s.Internal = was.Capacity, was.Backing, was.References, was.Problem, was.InternalSnapshots
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
	o := e.Operation.(*operation.SnapshotDelete)
	if !e.ok() && len(o.Above) == 0 {
		return nil
	}
	c.follow(v, o, e)
	if e.ok() {
		setFrozen(v, slices.DeleteFunc(slices.Clone(v.Frozen), withName(o.Snapshot)))
	}
	v.Generation++
	keepSum(v)
	return c.putVolume(tx, "volume.changed", v)
}

// follow takes over what became of what stood on a snapshot. When that is gone, what
// nobody could look at stands on what it stood on.
func (c *Catalog) follow(v *store.Volume, o *operation.SnapshotDelete, e end) {
	var items []ipc.Item
	if e.report != nil {
		items = e.report.Items
	}
	i := slices.IndexFunc(v.Frozen, withName(o.Snapshot))
	for _, l := range o.Above {
		at := slices.IndexFunc(items, func(it ipc.Item) bool { return it.Name == l.Name })
		_, name, snapshot := record.ParseSnapshot(l.Name)
		k := slices.IndexFunc(v.Frozen, withName(name))
		switch {
		case snapshot && k < 0:
		case at >= 0 && snapshot:
			seeFrozen(&v.Frozen[k], items[at])
		case at >= 0:
			c.see(v, items[at])
		case !e.ok() || i < 0:
		case snapshot:
			v.Frozen[k].Backing, v.Frozen[k].References = v.Frozen[i].Backing, v.Frozen[i].References
		default:
			v.Backing, v.References = v.Frozen[i].Backing, v.Frozen[i].References
		}
	}
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
		if i := slices.IndexFunc(v.Frozen, withName(o.Snapshot)); i >= 0 {
			s := v.Frozen[i]
			v.Capacity, v.Backing, v.References, v.Problem, v.InternalSnapshots = s.Capacity, s.Backing, s.References, s.Problem, s.Internal
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

// leftAlone are the volumes that have changed since the scan, or are somebody's.
func (s scan) leftAlone(known []*store.Volume) map[string]bool {
	alone := map[string]bool{}
	for _, v := range known {
		alone[v.Name] = s.stale(v)
	}
	return alone
}

// freeze takes over which snapshots were found, by volume, but of those that stay as
// they are. One of no volume is warned of.
func (s scan) freeze(e end, alone map[string]bool, found map[string][]ipc.Item) error {
	volumes, err := s.tx.Volumes(s.pool.Name)
	if err != nil {
		return err
	}
	for _, v := range volumes {
		items := found[v.Name]
		delete(found, v.Name)
		if len(items) == 0 && len(v.Frozen) == 0 || alone[v.Name] || s.locked(v.Name) {
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
	locked := func(name string) bool { return s.locked(record.Shown(record.SnapshotFile(v.Name, name))) }
	all := slices.DeleteFunc(slices.Clone(v.Frozen), func(f store.Snapshot) bool {
		there := slices.ContainsFunc(items, func(it ipc.Item) bool {
			return it.Name == record.SnapshotFile(v.Name, f.Name) && sameVolume(s.pool.Type, f.Identity, it.Identity)
		})
		return !there && !locked(f.Name)
	})
	for _, it := range items {
		_, name, _ := record.ParseSnapshot(it.Name)
		switch i := slices.IndexFunc(all, withName(name)); {
		case locked(name):
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
