package catalog

import (
	"errors"
	"slices"

	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/store"
)

// Reset brings pools back to where they were, before any job looks: one that
// was active before a restart of the daemon is active still; after a reboot
// none is, and those with autostart are to be started.
func (c *Catalog) Reset(tx *store.Tx) (start []operation.Operation, err error) {
	if err := recount(tx); err != nil {
		return nil, err
	}
	pools, err := tx.Pools()
	if err != nil {
		return nil, err
	}
	live, err := tx.LiveJobs()
	if err != nil {
		return nil, err
	}
	for _, p := range pools {
		if p.Boot == c.boot {
			continue
		}
		p.Boot, p.Before, p.Job = c.boot, "", 0 // what a job of before would go back to is over
		p.NotStarted = true
		c.move(p, record.PoolInactive, "host was started")
		if err := errors.Join(c.useNext(tx, p), c.keep(tx, p)); err != nil {
			return nil, err
		}
		if p.Autostart && !slices.ContainsFunc(live, starts(p)) {
			start = append(start, StartOf(p))
		}
	}
	return start, nil
}

// keep records a pool of before, unless it was to be forgotten then.
func (c *Catalog) keep(tx *store.Tx, p *store.Pool) error {
	if forgotten(p) {
		return c.Undefine(tx, p)
	}
	return tx.PutPool(p)
}

// starts tells the job that will start the pool by itself: one that had not
// begun. One that had has failed by the reboot.
func starts(p *store.Pool) func(*store.Job) bool {
	return func(j *store.Job) bool {
		return j.Kind == record.PoolStart && j.Objects[0].Pool == p.Name && !j.Go && !j.CancelAsk
	}
}
