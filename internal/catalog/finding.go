package catalog

import (
	"errors"
	"reflect"
	"time"

	"storaged/internal/ipc"
	"storaged/internal/record"
	"storaged/internal/store"
)

// Readable reports whether a pool can be read, or could be when it was tried
// last; one that a job starts or stops is that job's.
func Readable(p *store.Pool) bool {
	switch p.State {
	case record.PoolActive, record.PoolDegraded, record.PoolUnreachable:
		return true
	}
	return false
}

// Finding is what a query helper said of a pool: report, or why there is none.
type Finding struct {
	Report *ipc.Report
	Began  time.Time
	Err    *record.Error
}

// ApplyPool applies a finding, unless the pool is no more as it was when it
// was asked for.
func (c *Catalog) ApplyPool(tx *store.Tx, asked *store.Pool, f Finding) error {
	p, err := tx.Pool(asked.Name)
	if err != nil {
		return IgnoreNotFound(err)
	}
	if !inUse(p, asked) || !c.newer(tx, p.UUID, f.Began) {
		return nil
	}
	before := p.Pool
	switch {
	case f.Err != nil && c.ReadSince(p, f.Began):
		return nil // a job has read it meanwhile
	case f.Err != nil:
		c.show(p, record.PoolUnreachable, f.Err.Message)
	default:
		c.show(p, record.PoolActive, "")
		j := &store.Job{Job: record.Job{Started: &f.Began}} // of no number: every job's locks count
		if err := c.sync(tx, p, end{Operation: RefreshOf(p), job: j, report: f.Report}); err != nil {
			return err
		}
	}
	if before.State == p.State && before.Available == p.Available && before.Allocation == p.Allocation {
		return tx.PutPool(p) // nothing to tell anybody
	}
	return c.putPool(tx, "pool.state", p)
}

// ApplyVolume applies what was found of one volume; no report is that there is none.
// As with a scan, what a job has, or has changed since, stays.
func (c *Catalog) ApplyVolume(tx *store.Tx, in *store.Pool, volume string, f Finding) error {
	s, v, err := c.foundOf(tx, in, volume, f)
	switch {
	case err != nil || v == nil:
		return err
	case f.Report == nil:
		return c.vanish(tx, v)
	}
	return errors.Join(s.apply(v, *f.Report.Volume), tx.PutPool(s.pool))
}

// VolumeNews reports whether ApplyVolume would change more than when the volume was seen,
// and when somebody has read it.
func (c *Catalog) VolumeNews(tx *store.Tx, in *store.Pool, volume string, f Finding) (bool, error) {
	_, v, err := c.foundOf(tx, in, volume, f)
	if err != nil || v == nil || f.Report == nil {
		return v != nil, err
	}
	now := *v
	c.see(&now, *f.Report.Volume)
	now.Observed = v.Observed
	now.Times, v.Times = unread(now.Times), unread(v.Times)
	return !reflect.DeepEqual(now, *v), nil
}

// unread is times without that of the last reading.
func unread(t *record.Times) *record.Times {
	if t == nil {
		return nil
	}
	return &record.Times{Modified: t.Modified, Changed: t.Changed, Born: t.Born}
}

// foundOf gives the entry that a finding is of, and how it is applied; nil where it is not.
func (c *Catalog) foundOf(tx *store.Tx, in *store.Pool, volume string, f Finding) (s scan, v *store.Volume, err error) {
	p, err := tx.Pool(in.Name)
	if err != nil || !inUse(p, in) {
		return s, nil, IgnoreNotFound(err)
	}
	if v, err = tx.Volume(p.Name, volume); err != nil {
		return s, nil, IgnoreNotFound(err)
	}
	busy, err := lockedNames(tx, p.Name, 0)
	if err != nil {
		return s, nil, err
	}
	s = scan{Catalog: c, tx: tx, pool: p, began: &store.Job{Job: record.Job{Started: &f.Began}}, busy: busy}
	if s.stale(v) || f.Report != nil && !foundAs(p, v, f.Report.Volume) {
		return s, nil, nil
	}
	return s, v, nil
}

// foundAs reports whether what was found at the name of a volume is one.
func foundAs(p *store.Pool, v *store.Volume, it *ipc.Item) bool {
	return it != nil && it.Name == v.Name && (it.Ignored == "" || linked(p.Type, v, *it))
}

// Held reports whether a job has a volume, or makes it: what is found of its file is not
// noted then.
func Held(tx *store.Tx, v *store.Volume) (bool, error) {
	busy, err := lockedNames(tx, v.Pool, 0)
	return scan{busy: busy}.locked(v.Name) || v.State == record.VolumeBuilding, err
}

// AsFound gives v who may do what with its file, and the times of that, as they were found.
// While a job has a volume the entry does not follow, but these no job decides.
func AsFound(p *store.Pool, v *store.Volume, f Finding) {
	if f.Report != nil && foundAs(p, v, f.Report.Volume) && v.Identity != "" && sameVolume(p.Type, v.Identity, f.Report.Volume.Identity) {
		v.Permissions, v.Times = permissionsIn(*f.Report.Volume), timesIn(*f.Report.Volume)
	}
}

// inUse reports whether a pool is the one that a helper was asked about, and is in use still.
func inUse(p, asked *store.Pool) bool {
	return p.UUID == asked.UUID && p.Target.Path == asked.Target.Path && Readable(p)
}

// ReadSince reports whether a pool was read after then.
func (c *Catalog) ReadSince(p *store.Pool, then time.Time) bool {
	return p.Observed != nil && c.since(*p.Observed, then)
}

// show is move for a reader: what is so already is not news.
func (c *Catalog) show(p *store.Pool, s record.PoolState, reason string) {
	if p.State != s {
		c.move(p, s, reason)
	}
}

// newer reports whether a finding is to be applied: it was not yet, by another
// who asked for the same.
func (c *Catalog) newer(tx *store.Tx, pool string, began time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !began.After(c.applied[pool]) {
		return false
	}
	tx.OnCommit(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.applied[pool] = began
	})
	return true
}
