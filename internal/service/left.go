package service

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"storaged/internal/record"
	"storaged/internal/store"
	"storaged/internal/supervisor"
)

// started says that a job that has waited over a reboot waits on until its
// pools are started.
func (w work) started(tx *store.Tx) error {
	if w.Volume == "" {
		return nil // work on the pool itself, its start among others
	}
	for _, name := range []string{w.Pool, w.TargetPool} {
		p, err := tx.Pool(name)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if p.NotStarted {
			return fmt.Errorf("%w: pool %q was not started since the host was; when it is started the job goes on", supervisor.ErrNotYet, p.Name)
		}
	}
	return nil
}

// left keeps the books of what ended jobs left unfinished in their pools: what
// this one leaves for a retry, and that it may have taken up what another left.
func (k *keeper) left(tx *store.Tx, e end) error {
	if e.job.From != "" && e.job.Go {
		if err := unresumable(tx, e.job.From); err != nil {
			return err
		}
	}
	if e.Kind == record.PoolRefresh && e.ok() {
		return discarded(tx, e)
	}
	stuck := e.stuck()
	if !stuck && (e.job.Resumable == nil || !e.kind().keeps) {
		return nil
	}
	pool, _ := e.target()
	p, err := tx.Pool(pool)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
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
	return e.job.Rollback == record.RollbackFailed && (e.kind().keeps || e.Kind == record.VolumeMove)
}

// leftovers are sentences on what jobs left in pools that could not undo it.
func (s *Service) leftovers() (out []string) {
	err := s.store.View(func(tx *store.Tx) error {
		pools, err := tx.Pools()
		for _, p := range pools {
			told, failed := leftIn(tx, p)
			out, err = append(out, told...), errors.Join(err, failed)
		}
		return err
	})
	if err != nil {
		s.log.Error("what jobs have left is not known", "error", err)
	}
	return out
}

// leftIn are those of one pool. The rest is told where a record cannot be read.
func leftIn(tx *store.Tx, p *store.Pool) (out []string, failed error) {
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

// discards lets a refresh remove what no retry will go on with.
func (k *keeper) discards(tx *store.Tx, w *work) error {
	p, err := tx.Pool(w.Pool)
	if err != nil {
		return err
	}
	w.Discard, err = k.useless(tx, p)
	for _, id := range w.Discard {
		if err == nil {
			err = unresumable(tx, id)
		}
	}
	return err
}

// useless are the jobs whose unfinished volumes in a pool no retry will go on
// with. Nothing is removed that cannot be attributed to a job that ended.
func (k *keeper) useless(tx *store.Tx, p *store.Pool) ([]string, error) {
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
		expired, err := k.expired(tx, id)
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
func (k *keeper) expired(tx *store.Tx, id string) (bool, error) {
	j, err := tx.Job(id)
	if errors.Is(err, store.ErrNotFound) || err == nil && j.Resumable == nil {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return !j.Pinned && j.Ended != nil && k.now().Sub(*j.Ended) >= time.Duration(k.resume.KeepDays)*24*time.Hour, nil
}

// tidying are refreshes of the pools in which something is to be removed.
func (k *keeper) tidying(tx *store.Tx) ([]work, error) {
	pools, err := tx.Pools()
	if err != nil {
		return nil, err
	}
	var out []work
	for _, p := range pools {
		ids, err := k.useless(tx, p)
		if err != nil {
			return nil, err
		}
		if len(ids) > 0 && lookable(p) && p.State != record.PoolUnreachable { // a refresh of that would fail, hour by hour
			out = append(out, poolWork(p, record.PoolRefresh))
		}
	}
	return out, nil
}

// tidyInterval is how often it is looked whether something has expired: what is
// kept for days may stay an hour longer.
const tidyInterval = time.Hour

// KeepTidy has what has expired removed, until ctx ends.
func (s *Service) KeepTidy(ctx context.Context) {
	tick := time.NewTicker(tidyInterval)
	defer tick.Stop()
	for {
		var all []work
		err := s.store.View(func(tx *store.Tx) (err error) {
			all, err = s.keeper.tidying(tx)
			return err
		})
		if err != nil {
			s.log.Error("what was kept for a retry is not looked after", "error", err)
		}
		s.startOwn(ctx, all)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// discarded forgets what a refresh has removed. What it could not, it warns of,
// and the next one tries again.
func discarded(tx *store.Tx, e end) error {
	if e.report == nil || len(e.report.Warnings) > 0 {
		return nil
	}
	p, err := tx.Pool(e.Pool)
	if errors.Is(err, store.ErrNotFound) || err == nil && len(p.Unfinished) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	p.Unfinished = slices.DeleteFunc(p.Unfinished, func(id string) bool { return slices.Contains(e.Discard, id) })
	return tx.PutPool(p)
}
