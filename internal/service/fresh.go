package service

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"storaged/internal/catalog"
	"storaged/internal/ipc"
	"storaged/internal/operation"
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
// what the catalog knows of its volumes is old.
func (s *Service) Freshen(ctx context.Context, names ...string) error {
	ctx, cancel := context.WithTimeout(ctx, freshTimeout)
	defer cancel()
	var pools []*store.Pool
	err := s.store.View(func(tx *store.Tx) (err error) {
		pools, err = poolsNamed(tx, names)
		return err
	})
	if err != nil {
		return err
	}
	pools = slices.DeleteFunc(pools, func(p *store.Pool) bool { return !catalog.Readable(p) })
	if err := errors.Join(eachOf(pools, func(p *store.Pool) error { return s.freshenOne(ctx, p) })...); err != nil {
		return err
	}
	return s.store.View(func(tx *store.Tx) error { return current(tx, names) })
}

// eachOf has pools read, several at a time, and gives what came of each.
func eachOf(pools []*store.Pool, read func(*store.Pool) error) []error {
	errs := make([]error, len(pools))
	places := make(chan struct{}, freshAtOnce)
	var all sync.WaitGroup
	for i, p := range pools {
		places <- struct{}{}
		all.Go(func() {
			errs[i] = read(p)
			<-places
		})
	}
	all.Wait()
	return errs
}

// look has a query helper read a pool; began is before it did. An answer that is
// a moment old will do.
func (s *Service) look(ctx context.Context, p *record.Pool) (report *ipc.Report, began time.Time, err error) {
	return s.lookSince(ctx, p, time.Time{})
}

// lookSince is look where the reading must have begun after then.
func (s *Service) lookSince(ctx context.Context, p *record.Pool, since time.Time) (report *ipc.Report, began time.Time, err error) {
	at, err := s.situated(p.Name)
	if err != nil {
		return nil, began, err
	}
	list := operation.PoolRefresh{OnPool: operation.OnPool{Volume: at}}
	report, began, err = s.jobs.QuerySince(ctx, "pool "+p.UUID, list.Task().Argv(), since)
	var refusal *record.Error
	if errors.As(err, &refusal) {
		if nerr := s.noteAbsence(p, catalog.Finding{Began: began, Err: refusal}); nerr != nil {
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
	return s.store.Update(func(tx *store.Tx) error {
		return s.catalog.ApplyPool(tx, p, catalog.Finding{Report: report, Began: began, Err: refusal})
	})
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

// situated names a pool with the storage that it is known by, for a query that
// reads it.
func (s *Service) situated(pool string) (operation.Volume, error) {
	var o *operation.PoolRefresh
	err := s.store.View(func(tx *store.Tx) error {
		p, err := catalog.Pool(tx, pool)
		if err != nil {
			return err
		}
		o = catalog.RefreshOf(p)
		return catalog.Locate(tx, o)
	})
	if err != nil {
		return operation.Volume{}, err
	}
	return o.Volume, nil
}
