package service

import (
	"context"
	"errors"

	"github.com/google/uuid"

	"storaged/internal/catalog"
	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/store"
)

// lookAfter has a query helper look at one volume, and lets the catalog follow
// what it finds.
func (s *Service) lookAfter(ctx context.Context, v *store.Volume) error {
	f, err := s.lookAt(ctx, v.Pool, v.Name)
	if err != nil {
		return err
	}
	return s.store.Update(func(tx *store.Tx) error { return s.catalog.ApplyVolume(tx, v, f) })
}

// lookAt has a query helper look at a volume; no report is that there is none.
func (s *Service) lookAt(ctx context.Context, pool, volume string) (f catalog.Finding, err error) {
	ctx, cancel := context.WithTimeout(ctx, freshTimeout)
	defer cancel()
	var p *store.Pool
	err = s.store.View(func(tx *store.Tx) (err error) {
		p, err = catalog.ActivePool(tx, pool)
		return err
	})
	if err != nil {
		return f, err
	}
	at := catalog.OnVolume(p, volume)
	at.PoolID = p.Identity
	// Under a key of its own: what was so a moment ago is no answer.
	f.Report, f.Began, err = s.jobs.Query(ctx, "volume "+uuid.NewString(), (&operation.Look{Volume: at}).Task().Argv())
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return f, slowPool(p.Name)
	case err == nil || !errors.As(err, &f.Err):
		return f, err
	case f.Err.Code == record.NotFound && f.Err.Path == at.Path:
		return catalog.Finding{Began: f.Began}, nil
	}
	return f, errors.Join(s.noteAbsence(&p.Pool, f), f.Err)
}

// noteAbsence shows a pool as unreachable if a query says that it is.
func (s *Service) noteAbsence(asked *record.Pool, f catalog.Finding) error {
	if !catalog.PoolAbsent(f.Err.Code, f.Err.Path) {
		return nil
	}
	return s.store.Update(func(tx *store.Tx) error {
		p, err := tx.Pool(asked.Name)
		if err != nil || p.UUID != asked.UUID || p.Target.Path != f.Err.Path || s.catalog.ReadSince(p, f.Began) {
			return catalog.IgnoreNotFound(err)
		}
		return s.catalog.Unreachable(tx, p, f.Err.Message)
	})
}

// slowPool is a pool that does not answer.
func slowPool(name string) error {
	return record.Errorf(record.TimedOut, "pool %q could not be read within %v", name, freshTimeout).
		WithHint("without fresh, the answer is what was read last")
}

// current refuses what is asked for as it is now where a pool could not be read:
// one that is named, and of all those in use.
func current(tx *store.Tx, names []string) error {
	pools, err := poolsNamed(tx, names)
	if err != nil {
		return err
	}
	for _, p := range pools {
		if len(names) == 0 && p.State != record.PoolUnreachable {
			continue
		}
		if _, err := catalog.ActivePool(tx, p.Name); err != nil {
			return err
		}
	}
	return nil
}
