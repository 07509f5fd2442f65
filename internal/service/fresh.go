package service

import (
	"context"
	"errors"
	"sync"
	"time"

	"storaged/internal/ipc"
	"storaged/internal/record"
	"storaged/internal/store"
)

const (
	// freshTimeout bounds the wait for pools to be read. A directory of a
	// million files takes seconds; a dead server takes for ever.
	freshTimeout = 30 * time.Second

	// freshAtOnce is how many pools one call has read at the same time.
	freshAtOnce = 8
)

// Freshen reads pools anew by query helpers: no job, no history. What is found
// is applied as that of a refresh job. A pool that could not be read is an error:
// what the catalogue knows of its volumes is old.
func (s *Service) Freshen(ctx context.Context, names ...string) error {
	ctx, cancel := context.WithTimeout(ctx, freshTimeout)
	defer cancel()
	var pools []*store.Pool
	err := s.store.View(func(tx *store.Tx) (err error) {
		pools, err = poolsOf(tx, names)
		return err
	})
	if err != nil {
		return err
	}
	errs := make([]error, len(pools))
	places := make(chan struct{}, freshAtOnce)
	var all sync.WaitGroup
	for i, p := range pools {
		if !lookable(p) {
			continue
		}
		places <- struct{}{}
		all.Go(func() {
			errs[i] = s.freshenOne(ctx, p)
			<-places
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return s.store.View(func(tx *store.Tx) error { return current(tx, names) })
}

// lookable reports whether a pool can be read, or could be when it was tried
// last; one that a job starts or stops is that job's.
func lookable(p *store.Pool) bool {
	switch p.State {
	case record.PoolActive, record.PoolDegraded, record.PoolUnreachable:
		return true
	}
	return false
}

// look has a query helper read a pool; began is before it did. An answer that is
// a moment old will do.
func (s *Service) look(ctx context.Context, p *record.Pool) (report *ipc.Report, began time.Time, err error) {
	return s.lookSince(ctx, p, time.Time{})
}

// lookSince is look where the reading must have begun after then.
func (s *Service) lookSince(ctx context.Context, p *record.Pool, since time.Time) (report *ipc.Report, began time.Time, err error) {
	w := work{Kind: record.PoolRefresh, Pool: p.Name, Type: p.Type, Path: p.Target.Path}
	if err := s.store.View(w.locate); err != nil {
		return nil, began, err
	}
	report, began, err = s.jobs.QuerySince(ctx, "pool "+p.UUID, w.operation().Task().Argv(), since)
	var refusal *record.Error
	if errors.As(err, &refusal) {
		if nerr := s.noteAbsence(p, finding{began: began, err: refusal}); nerr != nil {
			return nil, began, nerr
		}
	}
	return report, began, err
}

func (s *Service) freshenOne(ctx context.Context, p *store.Pool) error {
	report, began, err := s.look(ctx, &p.Pool)
	var refusal *record.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return slowPool(p.Name)
	case err != nil && (!errors.As(err, &refusal) || ownFault(refusal.Code)):
		return err
	}
	return s.store.Update(func(tx *store.Tx) error { return s.keeper.freshened(tx, p, finding{report, began, refusal}) })
}

// ownFault reports whether a code tells of us and not of the pool: its helper
// was killed, or could not be started.
func ownFault(c record.Code) bool {
	switch c {
	case record.RecoveringCode, record.Killed, record.Interrupted, record.Internal, record.Inconsistent:
		return true
	}
	return false
}

// finding is what a query helper said of a pool: report, or why there is none.
type finding struct {
	report *ipc.Report
	began  time.Time
	err    *record.Error
}

// freshened applies a finding, unless the pool is no more as it was when it
// was asked for.
func (k *keeper) freshened(tx *store.Tx, asked *store.Pool, f finding) error {
	p, err := tx.Pool(asked.Name)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if p.UUID != asked.UUID || p.Target.Path != asked.Target.Path || !lookable(p) || !k.newer(tx, p.UUID, f.began) {
		return nil
	}
	before := p.Pool
	switch {
	case f.err != nil && k.readSince(p, f.began):
		return nil // a job has read it meanwhile
	case f.err != nil:
		k.show(p, record.PoolUnreachable, f.err.Message)
	default:
		k.show(p, record.PoolActive, "")
		j := &store.Job{Job: record.Job{Started: &f.began}} // of no number: every job's locks count
		if err := k.sync(tx, p, end{work: poolWork(p, record.PoolRefresh), job: j, report: f.report}); err != nil {
			return err
		}
	}
	if before.State == p.State && before.Available == p.Available && before.Allocation == p.Allocation {
		return tx.PutPool(p) // nothing to tell anybody
	}
	return k.putPool(tx, "pool.state", p)
}

// show is move for a reader: what is so already is not news.
func (k *keeper) show(p *store.Pool, s record.PoolState, reason string) {
	if p.State != s {
		k.move(p, s, reason)
	}
}

// newer reports whether a finding is to be applied: it was not yet, by another
// who asked for the same.
func (k *keeper) newer(tx *store.Tx, pool string, began time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !began.After(k.applied[pool]) {
		return false
	}
	tx.OnCommit(func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.applied[pool] = began
	})
	return true
}
