package catalog

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/store"
	"storaged/internal/supervisor"
)

// started says that a job that has waited over a reboot waits on until its
// pools are started.
func started(tx *store.Tx, o operation.Operation) error {
	if o.On().Name == "" {
		return nil // it is on the pool itself, its start among others
	}
	pools, err := poolsOf(tx, o)
	if err == nil {
		pools, err = withLayers(tx, o, pools)
	}
	if err != nil {
		return err
	}
	for _, p := range pools {
		if p.NotStarted {
			return fmt.Errorf("%w: pool %q was not started since the host was; when it is started the job goes on", supervisor.ErrNotYet, p.Name)
		}
	}
	return nil
}

// leftover books what ended jobs left unfinished in their pools: what
// this one leaves for a retry, and that it may have taken up what another left.
func (c *Catalog) leftover(tx *store.Tx, e end) error {
	if e.job.From != "" && e.job.Go {
		if err := unresumable(tx, e.job.From); err != nil {
			return err
		}
	}
	if r, ok := e.Operation.(*operation.PoolRefresh); ok && e.ok() {
		return discarded(tx, e, r)
	}
	stuck := e.stuck()
	if !stuck && (e.job.Resumable == nil || operation.DraftOf(e.Operation) == nil) {
		return nil
	}
	pool, _ := operation.ResultOf(e.Operation)
	p, err := tx.Pool(pool)
	if err != nil {
		return IgnoreNotFound(err)
	}
	if stuck && e.job.Error != nil {
		e.job.Error = e.job.Error.WithHint("%q may be left; %s removes it, or says what is in the way", draftPath(p, e.job.ID), record.Do("pool.refresh", p.Name))
	}
	p.Unfinished = append(p.Unfinished, e.job.ID)
	return tx.PutPool(p)
}

// stuck reports whether a job that was to make a volume may have left what is
// unfinished of it, because that could not be undone.
func (e end) stuck() bool {
	return e.job.Rollback == record.RollbackFailed && (operation.DraftOf(e.Operation) != nil || e.Effect() == operation.Transfers)
}

// Leftovers are sentences on what jobs left in pools that could not undo it.
func Leftovers(tx *store.Tx) (out []string, failed error) {
	pools, failed := tx.Pools()
	for _, p := range pools {
		some, err := unfinishedIn(tx, p)
		out, failed = append(out, some...), errors.Join(failed, err)
	}
	return out, failed
}

// unfinishedIn are those of one pool. The rest is told where a record cannot be read.
func unfinishedIn(tx *store.Tx, p *store.Pool) (out []string, failed error) {
	for _, id := range p.Unfinished {
		j, err := tx.Job(id)
		switch {
		case errors.Is(err, store.ErrNotFound): // forgotten
		case err != nil:
			failed = errors.Join(failed, err)
		case j.Rollback == record.RollbackFailed:
			out = append(out, fmt.Sprintf("job %d could not undo its work: %q may be left in pool %q; a refresh of the pool removes it, or says what is in the way",
				j.Number, draftPath(p, id), p.Name))
		}
	}
	return out, failed
}

// unresumable says of an ended job that nobody can go on from its checkpoint
// any more.
func unresumable(tx *store.Tx, id string) error {
	j, err := tx.Job(id)
	if errors.Is(err, store.ErrNotFound) || err == nil && j.Resumable == nil {
		return nil
	}
	if err != nil {
		return err
	}
	j.Resumable = nil
	return tx.PutJob(j)
}

// discards are the jobs whose unfinished volumes a refresh removes: no retry will go
// on with them.
func (c *Catalog) discards(tx *store.Tx, pool string) ([]string, error) {
	p, err := tx.Pool(pool)
	if err != nil {
		return nil, err
	}
	ids, err := c.useless(tx, p)
	for _, id := range ids {
		if err == nil {
			err = unresumable(tx, id)
		}
	}
	return ids, err
}

// useless are the jobs whose unfinished volumes in a pool no retry will go on
// with. Nothing is removed that cannot be attributed to a job that ended.
func (c *Catalog) useless(tx *store.Tx, p *store.Pool) ([]string, error) {
	if len(p.Unfinished) == 0 {
		return nil, nil
	}
	live, err := tx.LiveJobs()
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, id := range p.Unfinished {
		if slices.ContainsFunc(live, func(j *store.Job) bool { return j.From == id || j.ID == id }) {
			continue
		}
		expired, err := c.expired(tx, id)
		if err != nil {
			return nil, err
		}
		if expired {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// expired reports whether what an ended job left is of no use any more: the job
// is forgotten, was retried, or ended too long ago.
func (c *Catalog) expired(tx *store.Tx, id string) (bool, error) {
	j, err := tx.Job(id)
	if errors.Is(err, store.ErrNotFound) || err == nil && j.Resumable == nil {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return !j.Pinned && j.Ended != nil && c.now().Sub(*j.Ended) >= time.Duration(c.keepDays)*24*time.Hour, nil
}

// Cleanups are refreshes of the pools in which something is to be removed.
func (c *Catalog) Cleanups(tx *store.Tx) ([]operation.Operation, error) {
	pools, err := tx.Pools()
	if err != nil {
		return nil, err
	}
	var out []operation.Operation
	for _, p := range pools {
		ids, err := c.useless(tx, p)
		if err != nil {
			return nil, err
		}
		if len(ids) > 0 && Readable(p) && p.State != record.PoolUnreachable { // a refresh of that would fail, hour by hour
			out = append(out, RefreshOf(p))
		}
	}
	return out, nil
}

// discarded forgets what a refresh has removed. What it could not, it warns of,
// and the next one tries again.
func discarded(tx *store.Tx, e end, r *operation.PoolRefresh) error {
	if e.report == nil || len(e.report.Warnings) > 0 {
		return nil
	}
	p, err := tx.Pool(r.Pool)
	if errors.Is(err, store.ErrNotFound) || err == nil && len(p.Unfinished) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	p.Unfinished = slices.DeleteFunc(p.Unfinished, func(id string) bool { return slices.Contains(r.Discard, id) })
	return tx.PutPool(p)
}

// RefreshOf reads a pool.
func RefreshOf(p *store.Pool) *operation.PoolRefresh {
	return &operation.PoolRefresh{OnPool: operation.OnPool{Volume: OnPool(p)}}
}

// StartOf starts a pool.
func StartOf(p *store.Pool) *operation.PoolStart {
	return &operation.PoolStart{OnPool: operation.OnPool{Volume: OnPool(p)}}
}
