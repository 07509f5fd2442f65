package service

import (
	"context"
	"maps"
	"slices"
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
	w := newWatch()
	var all sync.WaitGroup
	defer all.Wait()
	damaged := 0
	for {
		every := time.Duration(s.settings.Load().Pools.ReadEvery)
		pools := s.readable(&damaged)
		w.forget(pools)
		for _, p := range pools {
			if places := w.begin(p, every); places != nil {
				all.Go(func() { w.end(p, s.readInTurn(ctx, p, places)) })
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

// readable are the pools that can be read, or could be when it was tried last. Those whose
// records are damaged keep no others from being read; how many there are is said when it
// is news.
func (s *Service) readable(damaged *int) (pools []*store.Pool) {
	var unknown int
	err := s.store.View(func(tx *store.Tx) (err error) {
		pools, unknown, err = tx.SoundPools()
		return err
	})
	if unknown != *damaged || err != nil {
		s.log.Error("not all pools are read, for records of them are damaged", "pools", unknown, "error", err)
	}
	*damaged = unknown
	return slices.DeleteFunc(pools, func(p *store.Pool) bool { return !catalog.Readable(p) })
}

// readInTurn has a pool read when there is a place for that, and reports whether it
// answered promptly.
func (s *Service) readInTurn(ctx context.Context, p *store.Pool, in *places) (prompt bool) {
	select {
	case in.taken <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	defer func() { <-in.taken }()
	begun := time.Now()
	err := s.readFigures(ctx, p, in.patience)
	if err != nil {
		s.log.Debug("the figures of a pool could not be read", "pool", p.Name, "error", err)
	}
	return err == nil && time.Since(begun) < roomTimeout
}

// readFigures has a helper ask what a pool lies on how full it is. One that could not be
// reached is read as a whole: its volumes may be others by now.
func (s *Service) readFigures(ctx context.Context, p *store.Pool, patience time.Duration) error {
	if p.State != record.PoolUnreachable {
		return s.readSpace(ctx, p, patience)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return s.freshenOne(ctx, p)
}

// slowAtOnce is how many pools that have not answered promptly are read at the same time.
const slowAtOnce = 2

// watch is when pools were read for KeepReading, by uuid. So many are read at once as by
// one call of Freshen, and besides a few of those that did not answer promptly when they
// were read last, which may take long: a pool that hangs takes the place of one that
// answers once, for as long as somebody is kept waiting for its room, and not again until
// it has answered as soon.
type watch struct {
	prompt, slow *places

	mu sync.Mutex
	of map[string]*watched
}

// places are what pools are read in.
type places struct {
	taken    chan struct{} // full when all are
	patience time.Duration // how long a pool may take
}

// watched is a pool that is read.
type watched struct {
	asked  time.Time
	asking bool // just now: it is not asked once more meanwhile
	slow   bool // it did not answer promptly
}

func newWatch() *watch {
	return &watch{
		prompt: &places{make(chan struct{}, freshAtOnce), roomTimeout},
		slow:   &places{make(chan struct{}, slowAtOnce), freshTimeout},
		of:     map[string]*watched{},
	}
}

// forget drops pools that are not among those that are in use.
func (w *watch) forget(used []*store.Pool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	maps.DeleteFunc(w.of, func(id string, one *watched) bool {
		return !one.asking && !slices.ContainsFunc(used, func(p *store.Pool) bool { return p.UUID == id })
	})
}

// begin gives the places that a pool is to be read in, or nil where it is not: what is known
// of it, by whomever, is no older than that. 0: however old it is.
func (w *watch) begin(p *store.Pool, every time.Duration) *places {
	w.mu.Lock()
	defer w.mu.Unlock()
	one := w.of[p.UUID]
	if one == nil {
		one = new(watched)
		w.of[p.UUID] = one
	}
	now := time.Now()
	if every == 0 || one.asking || now.Sub(one.asked) < every || young(p, now, every) {
		return nil
	}
	one.asked, one.asking = now, true
	if one.slow || p.State == record.PoolUnreachable {
		return w.slow
	}
	return w.prompt
}

// young reports whether the figures of a pool are not that old yet. An age below 0 is that
// of a clock that was set back.
func young(p *store.Pool, now time.Time, every time.Duration) bool {
	if p.Observed == nil || p.State == record.PoolUnreachable {
		return false
	}
	age := now.Sub(*p.Observed)
	return age >= 0 && age < every
}

// end notes that a pool was read, and whether it answered promptly.
func (w *watch) end(p *store.Pool, prompt bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	one := w.of[p.UUID]
	one.asking, one.slow = false, !prompt
}
