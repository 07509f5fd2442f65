package catalog

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"storaged/internal/ipc"
	"storaged/internal/operation"
	"storaged/internal/quantity"
	"storaged/internal/record"
	"storaged/internal/store"
)

// beginPool shows a pool in the state of the job that has it; "" leaves the
// state as it is.
func beginPool(state record.PoolState) func(*Catalog, *store.Tx, operation.Operation, *store.Job) error {
	return func(c *Catalog, tx *store.Tx, o operation.Operation, j *store.Job) error {
		p, err := Pool(tx, o.On().Pool)
		if err != nil {
			return err
		}
		if p.Job == j.Number {
			return nil // granted once already, before the daemon went away
		}
		if err := PoolAllows(tx, p, o); err != nil {
			return err
		}
		if state == "" {
			return nil
		}
		p.Before, p.Job = p.State, j.Number
		c.move(p, state, "")
		return c.putPool(tx, "pool.state", p)
	}
}

// PoolAllows refuses what the pool's state does not allow. It is asked when the
// job is submitted and again when it gets the pool.
func PoolAllows(tx *store.Tx, p *store.Pool, o operation.Operation) error {
	k, err := Known(tx, p, nil, nil)
	if err == nil {
		err = o.Allowed(k)
	}
	if err != nil {
		return err
	}
	if e := o.Effect(); e == operation.Starts || e == operation.Destroys {
		if err := errors.Join(apart(tx, p, p.Target.Path), separate(tx, p)); err != nil {
			return err
		}
	}
	if s, ok := o.(*operation.PoolStop); ok && !s.Force {
		return dispensable(tx, p)
	}
	if o.Displaces() && o.Effect() != operation.Empties { // which leaves those behind that must stay
		return unneeded(tx, p)
	}
	return nil
}

// InUse reports whether a pool's directory is its own: it is active, or a job
// that makes or destroys it has it.
func InUse(p *store.Pool) bool { return p.State != record.PoolInactive || p.Job != 0 }

// apart refuses a directory that is, holds or lies in that of another pool in
// use.
func apart(tx *store.Tx, self *store.Pool, path string) error {
	pools, err := tx.Pools()
	if err != nil {
		return err
	}
	for _, p := range pools {
		if p.UUID == self.UUID || !InUse(p) {
			continue
		}
		for _, other := range []string{p.Target.Path, p.Real} {
			if other != "" && (Inside(path, other) || Inside(other, path)) {
				return record.Errorf(record.Busy, "%s overlaps %s of the active pool %q", leading(self.Target.Path, path), leading(p.Target.Path, p.Real), p.Name).
					WithHint("use another directory, or %s", record.Do("pool.stop", p.Name))
			}
		}
	}
	return nil
}

// leading is a path as somebody has typed it, with where it leads, as far as that is
// known.
func leading(typed, real string) string {
	if real == "" || real == typed {
		return strconv.Quote(typed)
	}
	return fmt.Sprintf("%q (which is %q)", typed, real)
}

// separate refuses storage that is the source of another pool, in use or not: what one
// makes of it the other would take for its own.
func separate(tx *store.Tx, self *store.Pool) error {
	pools, err := tx.Pools()
	if err != nil {
		return err
	}
	for _, p := range pools {
		if p.UUID != self.UUID && p.Source.Meets(self.Source) {
			return record.Errorf(record.Busy, "the source of pool %q is that of pool %q", self.Name, p.Name).
				WithHint("use another one, or %s", record.Do("pool.undefine", p.Name))
		}
	}
	return nil
}

// devicesOfOthers are the source devices of all other pools, in use or not.
func devicesOfOthers(tx *store.Tx, on *operation.Volume) (devices []string, err error) {
	pools, err := tx.Pools()
	for _, p := range pools {
		if p.Name != on.Pool {
			devices = append(devices, p.Source.Devices...)
		}
	}
	return devices, err
}

// single refuses a directory that another pool in use has under another path: a
// bind mount has no name that would tell.
func single(tx *store.Tx, self *store.Pool, info *ipc.Pool) error {
	pools, err := tx.Pools()
	if err != nil {
		return err
	}
	for _, p := range pools {
		if p.UUID != self.UUID && InUse(p) && p.Identity != "" && sameObject(self.Type, p.Identity, info.Identity) {
			return record.Errorf(record.Busy, "%q is the directory of the active pool %q", info.Path, p.Name).
				WithHint("use another directory, or %s", record.Do("pool.stop", p.Name))
		}
	}
	return nil
}

// Inside reports whether path is dir or below it. Both are clean.
func Inside(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// endPool is what ends of jobs on pools have in common: the pool leaves the
// state the job gave it. A job that never got the pool changes nothing: another
// may have it.
func (c *Catalog) endPool(tx *store.Tx, e end, change func(*store.Pool) error) error {
	p, err := tx.Pool(e.On().Pool)
	if err != nil {
		return IgnoreNotFound(err) // there is none where it was refused at the grant
	}
	switch {
	case p.Job == e.job.Number:
		c.move(p, p.Before, p.Reason)
		p.Before, p.Job = "", 0
	case !e.job.Granted:
		return nil
	}
	if e.job.Result != nil {
		e.job.Result.Pool, e.job.Result.Path = p.Name, p.Target.Path
	}
	if err := change(p); err != nil {
		return err
	}
	if forgotten(p) {
		return c.Undefine(tx, p)
	}
	if err := c.useNext(tx, p); err != nil {
		return err
	}
	return c.putPool(tx, "pool.state", p)
}

// forgotten reports whether a pool is one that is there only as long as it is active.
func forgotten(p *store.Pool) bool {
	return !p.Persistent && p.State == record.PoolInactive && p.Job == 0
}

func endPoolBuild(c *Catalog, tx *store.Tx, e end) error {
	return c.endPool(tx, e, func(p *store.Pool) error {
		if e.ok() {
			c.move(p, record.PoolInactive, "built")
			p.Identity, p.Real, p.Permissions, p.Built = "", "", nil, true // it may have been made anew
		}
		return nil
	})
}

func endPoolStart(c *Catalog, tx *store.Tx, e end) error {
	return c.endPool(tx, e, func(p *store.Pool) error {
		if !e.ok() {
			c.move(p, record.PoolInactive, whyNot(e.job))
			return e.unstarted(tx, p)
		}
		if info := e.report.Pool; info != nil && info.Path != "" {
			if err := errors.Join(apart(tx, p, info.Path), single(tx, p, info)); err != nil {
				return e.refuse(c, p, err)
			}
		}
		c.move(p, record.PoolActive, "started")
		p.Boot = c.boot
		return c.sync(tx, p, e)
	})
}

// unstarted adds, to the error of a start that did not find the pool's directory,
// what to do. What it had when it was read last stays in the catalog until
// somebody accepts what is there now.
func (e end) unstarted(tx *store.Tx, p *store.Pool) error {
	can, err := Capabilities(p.Type)
	if err != nil {
		return err
	}
	switch f := e.job.Error; {
	case e.job.Code() == record.NotFound && len(f.Hint) > 0: // it is nothing that can be made
	case e.job.Code() == record.NotFound && operation.Unbuildable(p.Pool, can) != nil:
		e.job.Error = f.WithHint("bring there what should be there, or have it made: %s", operation.Anew(p.Pool, can))
	case e.job.Code() == record.NotFound:
		e.job.Error = f.WithHint("%s, or mount what should be there", record.Do("pool.build", e.On().Pool))
	case f != nil && PoolAbsent(f.Code, f.Path):
		vols, err := tx.Volumes(e.On().Pool)
		if err != nil {
			return err
		}
		text := fmt.Sprintf("%s; the catalog keeps its %s", f.Message, record.Plural(len(vols), "volume"))
		anew, then := record.Do("pool.build", e.On().Pool), "start"
		if !e.On().PoolSource.SameStorage(record.Source{}) { // a build makes no other, or destroys what is there
			anew, then = record.Do("pool.undefine", e.On().Pool), "define"
		}
		e.job.Error = f.WithHint("mount or bring back what belongs there, then %s; "+
			"to take what is there now in its place: %s, and "+then+" it then", record.Do("pool.start", e.On().Pool), anew)
		e.job.Error.Message = text
	}
	return nil
}

// refuse turns a success into a failure: only the helper could resolve the
// directory, and it is that of another pool. Starting has changed nothing.
func (e end) refuse(c *Catalog, p *store.Pool, err error) error {
	var refusal *record.Error
	if !errors.As(err, &refusal) {
		return err
	}
	e.job.State, e.job.Error, e.job.Result = record.Failed, refusal, nil
	c.move(p, record.PoolInactive, refusal.Message)
	return nil
}

func endPoolStop(c *Catalog, tx *store.Tx, e end) error {
	return c.endPool(tx, e, func(p *store.Pool) error {
		if e.ok() {
			c.move(p, record.PoolInactive, "stopped")
		}
		return nil
	})
}

func endPoolDelete(c *Catalog, tx *store.Tx, e end) error {
	return c.endPool(tx, e, func(p *store.Pool) error {
		if !e.ok() {
			e.undeleted(p)
			return nil
		}
		c.move(p, record.PoolInactive, "deleted")
		forgetFigures(p)
		p.Identity, p.Real, p.Permissions, p.Built, p.Lost = "", "", nil, false, nil // what is at its place from now on is another's
		return tx.DeleteVolumes(p.Name)
	})
}

// undeleted adds, to the error of a delete that found another storage than the pool's or
// more in it than may go, what to do.
func (e end) undeleted(p *store.Pool) {
	start, forget := record.Do("pool.start", p.Name), record.Do("pool.undefine", p.Name)
	switch f := e.job.Error; {
	case f == nil || !e.own():
	case PoolAbsent(f.Code, f.Path):
		e.job.Error = f.WithHint("bring back what belongs there, and delete it then; or %s, which forgets the pool and leaves alone what is there now", forget)
	case f.Code == record.HasChildren:
		e.job.Error = f.WithHint("%s lists the volumes that it holds: look at them, then stop and delete it again; what is no volume has to be removed from %q by other means", start, p.Target.Path)
	}
}

// heldIn are the names of the volumes and snapshots of a pool, as it has them.
func heldIn(tx *store.Tx, pool string) (names []string, err error) {
	vols, err := tx.Volumes(pool)
	for _, v := range vols {
		names = append(names, v.Name)
		for _, s := range v.Frozen {
			names = append(names, record.SnapshotFile(v.Name, s.Name))
		}
	}
	return names, err
}

// endPoolRefresh applies what was found. A pool that could not be read is
// unreachable: what the catalog knows of its volumes stays.
func endPoolRefresh(c *Catalog, tx *store.Tx, e end) error {
	return c.endPool(tx, e, func(p *store.Pool) error {
		switch {
		case p.State == record.PoolInactive:
			return nil
		case e.ok():
			c.move(p, record.PoolActive, "")
			return c.sync(tx, p, e)
		case e.job.State == record.Failed && e.own():
			c.move(p, record.PoolUnreachable, whyNot(e.job))
		}
		return nil
	})
}

// endPoolVerify says which of the volumes that were read are not to be relied
// on: their checksum is that of what happens to be there.
func endPoolVerify(_ *Catalog, tx *store.Tx, e end) error {
	r := e.job.Result
	if r == nil {
		return nil
	}
	r.Pool, r.Path = e.On().Pool, e.On().Path
	vols, err := tx.Volumes(e.On().Pool)
	if err != nil {
		return err
	}
	entries := byName(vols)
	for _, i := range r.Items {
		if v := entries[i.Volume]; v != nil && i.Checksum != "" && v.State != record.VolumeReady {
			e.job.Warnings = append(slices.Clone(e.job.Warnings), Complete(tx, v).Error())
		}
	}
	return nil
}

func byName(vols []*store.Volume) map[string]*store.Volume {
	entries := make(map[string]*store.Volume, len(vols))
	for _, v := range vols {
		entries[v.Name] = v
	}
	return entries
}

func whyNot(j *store.Job) string {
	if j.Error == nil {
		return string(j.State)
	}
	return j.Error.Message
}

// sync takes over what a helper found in a pool. A finding is applied only
// where no job has the name and the entry has not changed since the scan began.
func (c *Catalog) sync(tx *store.Tx, p *store.Pool, e end) error {
	if info := e.report.Pool; info != nil {
		if err := c.figures(tx, p, info, c.taken(p.Name)); err != nil {
			return err
		}
		p.Identity, p.Real = info.Identity, info.Path
		p.Devices = nil
		if info.Disk != "" {
			p.Devices = []string{info.Disk}
		}
		c.tellDevices(tx, p)
	}
	busy, err := lockedNames(tx, p.Name, e.job.Number)
	if err != nil {
		return err
	}
	known, err := tx.Volumes(p.Name)
	if err != nil {
		return err
	}
	entries := byName(known)
	s := scan{Catalog: c, tx: tx, pool: p, began: e.job, busy: busy, whole: true, incomplete: incompleteOf(known)}
	found := map[string]bool{}
	items, snapshots := volumesAndSnapshots(e.report.Items)
	alone := s.leftAlone(known)
	for _, it := range s.inOrder(items, entries) {
		found[it.Name] = true
		if err := s.apply(entries[it.Name], it); err != nil {
			return err
		}
	}
	if err := s.freeze(e, alone, snapshots); err != nil {
		return err
	}
	s.ignore(e, found)
	if err := s.vanish(known, found); err != nil {
		return err
	}
	return s.provisioned()
}

// linked reports whether an item that is ignored is the file of an entry, which
// has got another name beside its own: a backup was made of it by a hard link,
// say. It stays a volume, which nothing is done to until it has one name again.
func linked(poolType string, v *store.Volume, it ipc.Item) bool {
	return it.Ignored != "" && v != nil && v.Identity != "" && sameVolume(poolType, v.Identity, it.Identity)
}

// inOrder gives the items that are volumes, by name. bbolt splits a page only
// at the end of a transaction: records that come in order are appended to it,
// others move what is there, which for a large pool takes seconds.
func (s scan) inOrder(items []ipc.Item, entries map[string]*store.Volume) []ipc.Item {
	out := slices.DeleteFunc(slices.Clone(items), func(it ipc.Item) bool {
		return it.Ignored != "" && !linked(s.pool.Type, entries[it.Name], it)
	})
	slices.SortFunc(out, func(a, b ipc.Item) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// maxIgnored bounds the names that a job says it ignored. Whoever can write to
// the pool's directory can make any number.
const maxIgnored = 20

// ignore counts what is no volume, and names the first; and volumes that nothing
// can be done to, which are found all the same.
func (s scan) ignore(e end, found map[string]bool) {
	s.pool.Ignored = 0
	named := 0
	for _, it := range e.report.Items {
		if it.Ignored == "" {
			continue
		}
		if !found[it.Name] {
			s.pool.Ignored++
		}
		if named++; named <= maxIgnored {
			e.job.Warnings = append(e.job.Warnings, "ignored "+it.Name+": "+it.Ignored)
		}
	}
	if more := named - maxIgnored; more > 0 {
		e.job.Warnings = append(e.job.Warnings, fmt.Sprintf("ignored %d more names", more))
	}
}

// lockedNames are the volumes of a pool that live jobs other than self hold; ""
// stands for all.
func lockedNames(tx *store.Tx, pool string, self int64) (map[string]bool, error) {
	jobs, err := tx.LiveJobs()
	if err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for _, j := range jobs {
		for _, o := range j.Objects {
			// R, M and G on a pool leave its names as they are.
			if o.Pool == pool && j.Granted && j.Number != self && (o.Volume != "" || o.Mode == record.ModeWrite || o.Mode == record.ModeDelete) {
				names[o.Volume] = true
			}
		}
	}
	return names, nil
}

// scan is one application of findings to the catalog.
type scan struct {
	*Catalog
	tx    *store.Tx
	pool  *store.Pool
	began *store.Job
	busy  map[string]bool
	whole bool // it is of all volumes of the pool, of which
	// these were incomplete when it began.
	incomplete []*store.Volume
}

func (s scan) locked(name string) bool { return s.busy[""] || s.busy[name] }

// stale reports whether the entry is newer than the scan, or somebody's.
func (s scan) stale(v *store.Volume) bool {
	return s.locked(v.Name) || v.State == record.VolumeBuilding ||
		s.began.Started != nil && s.since(v.Observed, *s.began.Started)
}

func (s scan) apply(v *store.Volume, it ipc.Item) error {
	if s.locked(it.Name) || v != nil && s.stale(v) {
		return nil
	}
	if v == nil && s.goneSince(s.pool.Name, it.Name, s.began.Started) {
		return nil
	}
	replaced := v != nil && !sameVolume(s.pool.Type, v.Identity, it.Identity)
	var was *store.Lost
	if v == nil || replaced {
		var held bool
		var err error
		if was, held, err = s.formerly(it); held || err != nil {
			return err
		}
	}
	last, err := s.tx.LastNumber()
	if err != nil {
		return err
	}
	if v == nil {
		v = &store.Volume{Arrived: last, Volume: record.Volume{
			Pool: s.pool.Name, Name: it.Name, Key: it.Key, Path: it.Path, Type: it.VolType,
			Format: it.Format, State: record.VolumeReady, Generation: 1, Origin: record.Found,
		}}
		if was != nil {
			s.staysIncomplete(v, was, it)
		}
		s.see(v, it)
		return s.putVolume(s.tx, "volume.found", v)
	}
	before := v.Volume
	if replaced {
		if err := lose(s.tx, s.pool, v); err != nil {
			return err
		}
		// Another file by the same name: nothing we knew of it holds.
		v.Format, v.Origin, v.CreatedBy, v.Job, v.State = it.Format, record.Found, nil, nil, record.VolumeReady
		v.Promised, v.Arrived, v.Identity, v.Problem, v.Cut = 0, last, "", "", false
	}
	if replaced || v.Identity == "" && it.Identity != "" {
		v.Writer, v.Checksum = 0, nil // nobody knows who wrote what is there
	}
	if was != nil {
		s.staysIncomplete(v, was, it)
	}
	touched := v.ChangeNS != it.ChangeNS && !linkSum(v, it)
	s.see(v, it)
	if !replaced && v.Capacity == before.Capacity && v.Allocation == before.Allocation && samePermissions(v.Permissions, before.Permissions) && v.Reason == before.Reason && v.Problem == before.Problem {
		ageSum(v)
		return s.tx.PutVolume(v) // nothing to tell anybody
	}
	v.Generation++
	if !touched { // only its blocks were counted anew
		keepSum(v)
	}
	return s.putVolume(s.tx, "volume.changed", v)
}

// samePermissions reports whether two are the same, as far as they were known before.
func samePermissions(now, before *record.Permissions) bool {
	return before == nil || now != nil && *now == *before
}

// vanish forgets what is gone.
func (s scan) vanish(known []*store.Volume, found map[string]bool) error {
	for _, v := range known {
		if found[v.Name] || s.stale(v) {
			continue
		}
		if err := errors.Join(s.dropVolume(s.tx, vanished, v), lose(s.tx, s.pool, v)); err != nil {
			return err
		}
	}
	return nil
}

func (s scan) provisioned() error {
	vols, err := s.tx.Volumes(s.pool.Name)
	if err != nil {
		return err
	}
	s.pool.Provisioned = 0
	for _, v := range vols {
		s.pool.Provisioned = quantity.Sum(s.pool.Provisioned, v.Capacity)
	}
	return nil
}
