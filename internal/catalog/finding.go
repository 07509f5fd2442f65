package catalog

import (
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
	if p.UUID != asked.UUID || p.Target.Path != asked.Target.Path || !Readable(p) || !c.newer(tx, p.UUID, f.Began) {
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
func (c *Catalog) ApplyVolume(tx *store.Tx, asked *store.Volume, f Finding) error {
	p, err := tx.Pool(asked.Pool)
	if err != nil {
		return IgnoreNotFound(err)
	}
	v, err := tx.Volume(asked.Pool, asked.Name)
	if err != nil {
		return IgnoreNotFound(err)
	}
	busy, err := lockedNames(tx, p.Name, 0)
	if err != nil {
		return err
	}
	s := scan{Catalog: c, tx: tx, pool: p, began: &store.Job{Job: record.Job{Started: &f.Began}}, busy: busy}
	switch {
	case s.stale(v):
		return nil
	case f.Report == nil:
		return c.vanish(tx, v)
	case f.Report.Volume == nil || f.Report.Volume.Name != v.Name || f.Report.Volume.Ignored != "" && !linked(p.Type, v, *f.Report.Volume):
		return nil
	}
	return s.apply(v, *f.Report.Volume)
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
