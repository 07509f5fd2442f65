package catalog

import (
	"errors"
	"slices"

	"storaged/internal/ipc"
	"storaged/internal/record"
	"storaged/internal/store"
)

// A helper tells apart that a pool cannot be looked at, of which nothing follows
// for its volumes, and that a volume is not in a pool that it has looked at. The
// catalog follows both, whichever job or query found it.

// PoolAbsent reports whether a failure says that the pool at that path could not be
// looked at, or is another: no other failure of the code names a path.
func PoolAbsent(code record.Code, path string) bool { return code == record.WrongState && path != "" }

// absences lets the catalog follow what the helper of a job did not find.
func (c *Catalog) absences(tx *store.Tx, e end) error {
	if e.report == nil || e.job.Code() == record.Inconsistent {
		return nil
	}
	if err := c.absence(tx, e, e.report.Error); err != nil {
		return err
	}
	if f := e.report.Error; f != nil && !e.job.Undo && f.Code == string(record.NotFound) {
		if err := c.vanishedAt(tx, e, f.Path); err != nil {
			return err
		}
	}
	for _, it := range e.report.Items {
		if err := c.absence(tx, e, it.Error); err != nil {
			return err
		}
	}
	return c.vanishedOf(tx, e)
}

// vanishedOf takes the entries away of volumes that a job over many did not find.
// Between two of them others had their turn: what is newer than the job stays.
func (c *Catalog) vanishedOf(tx *store.Tx, e end) error {
	gone := slices.DeleteFunc(slices.Clone(e.report.Items), func(it ipc.Item) bool {
		return it.Error == nil || it.Error.Code != string(record.NotFound) || it.Error.Path == ""
	})
	if len(gone) == 0 {
		return nil
	}
	busy, err := lockedNames(tx, e.On().Pool, e.job.Number)
	if err != nil {
		return err
	}
	s := scan{Catalog: c, tx: tx, began: e.job, busy: busy}
	for _, it := range gone {
		v, err := tx.Volume(e.On().Pool, it.Name)
		if errors.Is(err, store.ErrNotFound) || err == nil && (v.Path != it.Error.Path || s.stale(v)) {
			continue
		}
		if err == nil {
			err = c.vanish(tx, v)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// absence marks the pools of a job that a failure says could not be looked at.
func (c *Catalog) absence(tx *store.Tx, e end, f *ipc.Error) error {
	if f == nil || !PoolAbsent(record.Code(f.Code), f.Path) {
		return nil
	}
	pools, err := poolsOf(tx, e.Operation)
	if err != nil {
		return err
	}
	for _, p := range pools {
		if p.Target.Path != f.Path {
			continue
		}
		if err := c.Unreachable(tx, p, f.Message); err != nil {
			return err
		}
		if own := e.job.Error; p.State == record.PoolUnreachable && own != nil && own.Path == f.Path {
			e.job.Error = own.WithHint("%s", waysBack(p)) // the helper knows no pool by its name
		}
	}
	return nil
}

// Unreachable shows that a pool in use cannot be looked at.
func (c *Catalog) Unreachable(tx *store.Tx, p *store.Pool, why string) error {
	if p.State != record.PoolActive && p.State != record.PoolDegraded {
		return nil
	}
	c.move(p, record.PoolUnreachable, why)
	return c.putPool(tx, "pool.state", p)
}

// vanishedAt takes the entry away of a volume of the job's that was not at its
// path. The job has the volume, so that nobody has made it anew since.
func (c *Catalog) vanishedAt(tx *store.Tx, e end, path string) error {
	if e.On().Name == "" || path == "" || path != e.On().Path {
		return nil
	}
	v, err := tx.Volume(e.On().Pool, e.On().Name)
	if errors.Is(err, store.ErrNotFound) || err == nil && v.State == record.VolumeBuilding {
		return nil
	}
	if err != nil {
		return err
	}
	return c.vanish(tx, v)
}

// vanish takes the entry of a volume away whose file others have removed.
func (c *Catalog) vanish(tx *store.Tx, v *store.Volume) error {
	if err := c.dropVolume(tx, vanished, v); err != nil {
		return err
	}
	p, err := tx.Pool(v.Pool)
	if err != nil {
		return IgnoreNotFound(err)
	}
	if err := errors.Join(lose(tx, p, v), tx.PutPool(p)); err != nil {
		return err
	}
	return c.provision(tx, v.Pool, -v.Capacity)
}

// replaced lets the catalog follow a volume of the job's whose name was found
// to be another's. It gives the report without that volume, which the job did
// nothing to.
func (c *Catalog) replaced(tx *store.Tx, e end) (*ipc.Report, error) {
	if !e.own() || e.report.Volume == nil || !swapped(e.report.Error, e.On().Path) {
		return e.report, nil
	}
	rest, it := *e.report, *e.report.Volume
	rest.Volume = nil
	v, err := tx.Volume(e.On().Pool, e.On().Name)
	if err != nil || it.Name != v.Name || it.Ignored != "" {
		return &rest, IgnoreNotFound(err)
	}
	p, err := tx.Pool(v.Pool)
	if err != nil {
		return &rest, IgnoreNotFound(err)
	}
	busy, err := lockedNames(tx, e.On().Pool, e.job.Number)
	if err != nil {
		return &rest, err
	}
	now, before := c.now(), v.Capacity
	s := scan{Catalog: c, tx: tx, pool: p, began: &store.Job{Job: record.Job{Started: &now}}, busy: busy}
	if err := errors.Join(s.apply(v, it), tx.PutPool(p)); err != nil {
		return &rest, err
	}
	return &rest, c.provision(tx, e.On().Pool, v.Capacity-before)
}

// swapped reports whether a failure says that the volume at that path is not the
// one that was meant: no other failure of the code names a path.
func swapped(f *ipc.Error, path string) bool {
	return f != nil && f.Code == string(record.Changed) && f.Path == path && path != ""
}
