package service

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"storaged/internal/catalog"
	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/store"
)

// A pool that is to be started with the host, and whose directory or device was not
// there or was another, is tried again when it may have appeared. The kernel tells of
// every mount, by /proc/self/mountinfo, without a look at any pool; of a directory that
// is made or moved, and of a device, nobody tells, so that helpers ask now and then.

// startAgainEvery is how often it is asked whether a pool's directory or device has
// appeared: soon enough for somebody who has just brought it back by hand, and a
// few milliseconds of one helper each time.
const startAgainEvery = time.Minute

// unstarted are sentences on pools that should have been started with the host.
func (s *Service) unstarted() (out []string) {
	pools, err := s.awaited()
	if err != nil {
		s.log.Error("which pools were not started is not known", "error", err)
	}
	for _, p := range pools {
		out = append(out, fmt.Sprintf("pool %q was not started with the host: %s; it is started when what belongs there appears, or when somebody starts it",
			p.Name, p.Reason))
	}
	return out
}

// awaited are the pools that should have been started with the host, and that no
// job is about.
func (s *Service) awaited() (out []*store.Pool, err error) {
	live := s.jobs.Live()
	err = s.store.View(func(tx *store.Tx) error {
		pools, err := tx.Pools()
		for _, p := range pools {
			if p.NotStarted && p.Autostart && !catalog.InUse(p) && !slices.ContainsFunc(live, func(j record.Job) bool { return concerns(j, p.Name) }) {
				out = append(out, p)
			}
		}
		return err
	})
	return out, err
}

// KeepStarting has pools started that should have been with the host, as soon as
// they can be, until ctx ends.
func (s *Service) KeepStarting(ctx context.Context) {
	changes := make(chan struct{}, 1) // one change is as good as two
	var all sync.WaitGroup
	defer all.Wait()
	all.Go(func() {
		if err := mountChanges(ctx, changes); err != nil {
			s.log.Warn("nothing tells of mounts: a pool that was not started is looked for now and then only", "error", err)
		}
	})
	tick := time.NewTicker(startAgainEvery)
	defer tick.Stop()
	a := appearing{s: s, asking: map[string]bool{}, found: map[string]bool{}}
	for {
		pools, err := s.awaited()
		if err != nil {
			s.log.Error("which pools were not started is not known", "error", err)
		}
		for _, p := range pools {
			if a.begin(p) {
				all.Go(func() { a.end(ctx, p, a.ask(ctx, p)) })
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-changes:
			a.mounted()
		case <-tick.C:
		}
	}
}

// appearing is what is known of pools that should have been started, by uuid.
type appearing struct {
	s  *Service
	mu sync.Mutex
	// asking are those of which a helper is asking just now. One whose server
	// hangs may be at it for ever, and is not joined by another.
	asking map[string]bool
	// found are those that were started because they were there. When that failed
	// it has another reason, and would fail again.
	found map[string]bool
}

// mounted forgets what was found: it may be another by now.
func (a *appearing) mounted() {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.found)
}

func (a *appearing) begin(p *store.Pool) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.asking[p.UUID] {
		return false
	}
	a.asking[p.UUID] = true
	return true
}

// ask reports whether a helper finds the directory that the pool was known by, or the
// device that it is to be mounted from.
func (a *appearing) ask(ctx context.Context, p *store.Pool) bool {
	at := catalog.OnPool(p)
	at.PoolID = catalog.Lasting(p.Type, p.Identity)
	_, _, err := a.s.jobs.Query(ctx, "start "+p.UUID, (&operation.Ready{Volume: at}).Task().Argv())
	return err == nil
}

// end has a pool started that is there.
func (a *appearing) end(ctx context.Context, p *store.Pool, there bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.asking, p.UUID)
	if there && !a.found[p.UUID] {
		if _, err := a.s.submit(ctx, contract.Submit{Caller: a.s.self()}, order{operation: catalog.StartOf(p)}); err != nil {
			a.s.log.Warn("cannot start a pool that is there now", "pool", p.Name, "error", err)
			there = false // in a while, maybe
		}
	}
	a.found[p.UUID] = there
}
