package service

import (
	"context"
	"sync"
	"time"

	"storaged/internal/catalog"
	"storaged/internal/record"
	"storaged/internal/store"
)

// Machines fill a pool, and a server goes away, while no job is about that pool. Whoever
// watches the figures is to learn of it, so that helpers read them now and then.

const (
	// watchInterval is how often it is looked at least whether a pool is to be read: who
	// changes the settings waits no longer for their effect.
	watchInterval = time.Minute

	// watchShare is how often, in the time that figures may become old, it is looked at
	// least: they are never older by more than a part of that.
	watchShare = 5
)

// KeepReading has the figures of pools read that are older than the settings want, until
// ctx ends.
func (s *Service) KeepReading(ctx context.Context) {
	w := watch{asked: map[string]time.Time{}, asking: map[string]bool{}}
	var all sync.WaitGroup
	defer all.Wait()
	for {
		every := time.Duration(s.settings.Load().Pools.ReadEvery)
		for _, p := range s.readable() {
			if every > 0 && w.begin(p, every) {
				all.Go(func() {
					defer w.end(p)
					if err := s.readFigures(ctx, p); err != nil {
						s.log.Debug("the figures of a pool could not be read", "pool", p.Name, "error", err)
					}
				})
			}
		}
		next := watchInterval
		if every > 0 {
			next = min(every/watchShare, next)
		}
		select {
		case <-time.After(next):
		case <-ctx.Done():
			return
		}
	}
}

// readable are the pools that can be read, or could be when it was tried last.
func (s *Service) readable() (out []*store.Pool) {
	err := s.store.View(func(tx *store.Tx) error {
		pools, err := tx.Pools()
		for _, p := range pools {
			if catalog.Readable(p) {
				out = append(out, p)
			}
		}
		return err
	})
	if err != nil {
		s.log.Error("which pools are to be read is not known", "error", err)
	}
	return out
}

// readFigures has a helper ask what a pool lies on how full it is. One that could not be
// reached is read as a whole: its volumes may be others by now.
func (s *Service) readFigures(ctx context.Context, p *store.Pool) error {
	if p.State == record.PoolUnreachable {
		return s.freshenOne(ctx, p)
	}
	seen := catalog.Space{Taken: s.taken(p.Name)} // before, as for readSpace
	var err error
	if seen.Info, seen.Began, err = s.askSpace(ctx, p); err != nil {
		return err
	}
	return s.store.Update(func(tx *store.Tx) error { return s.catalog.ApplySpace(tx, p, seen) })
}

// watch is when pools were read for KeepReading, by uuid.
type watch struct {
	mu    sync.Mutex
	asked map[string]time.Time
	// asking are those that a helper reads just now. One whose server hangs may be at it
	// for ever, and is not joined by another.
	asking map[string]bool
}

// begin reports whether a pool is to be read: what is known of it, by whomever, is older
// than that.
func (w *watch) begin(p *store.Pool, every time.Duration) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	if w.asking[p.UUID] || now.Sub(w.asked[p.UUID]) < every {
		return false
	}
	// An age below 0 is that of a clock that was set back.
	if p.Observed != nil && p.State != record.PoolUnreachable {
		if age := now.Sub(*p.Observed); age >= 0 && age < every {
			return false
		}
	}
	w.asked[p.UUID], w.asking[p.UUID] = now, true
	return true
}

func (w *watch) end(p *store.Pool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.asking, p.UUID)
}
