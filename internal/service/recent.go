package service

import (
	"context"
	"sync"
	"time"

	"storaged/internal/catalog"
	"storaged/internal/store"
)

const (
	// recentFor is how long what was read of a pool answers for all its volumes: as long
	// as the answer of a query does.
	recentFor = time.Second

	// recentShare bounds what is read for people who only look: a pool that takes long
	// rests so many times as long before it is read again for them.
	recentShare = 10

	// recentWithin is how long somebody waits for a pool to be read. A helper takes some
	// 20 ms for a hundred volumes; a hundred clients that poll are to have each answer
	// within 100 ms, and who lists the volumes of a pool that hangs is to have any.
	recentWithin = 50 * time.Millisecond
)

// readings are what pools are read for people who only look, by uuid: one at a time for
// each, for all who wait.
type readings struct {
	mu  sync.Mutex
	of  map[string]*reading
	all sync.WaitGroup
}

// reading is one of them, and then how long it counts.
type reading struct {
	began time.Time
	done  chan struct{}
	until time.Time // it counts, set before done is closed; guarded by readings.mu
}

// Recent has the catalog know what the volumes of a pool are now, as far as that is known
// within a moment: what a guest has written has made them larger. What is found later the
// next who asks is shown. It waits no longer than recentWithin, whatever the pool does.
func (s *Service) Recent(ctx context.Context, pool string) error {
	p, err := s.stored(pool)
	if err != nil || !catalog.Readable(p) {
		return err
	}
	r := s.readings.join(p, s.readRecent)
	late := time.NewTimer(time.Until(r.began.Add(recentWithin)))
	defer late.Stop()
	select {
	case <-r.done:
	case <-late.C:
	case <-ctx.Done():
	}
	return nil
}

// join gives the reading that counts now, or begins one.
func (rs *readings) join(p *store.Pool, read func(*store.Pool)) *reading {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if r := rs.of[p.UUID]; r != nil && (r.until.IsZero() || time.Now().Before(r.until)) {
		return r
	}
	if rs.of == nil {
		rs.of = map[string]*reading{}
	}
	r := &reading{began: time.Now(), done: make(chan struct{})}
	rs.of[p.UUID] = r
	rs.all.Go(func() { // ends with the query, at the latest when the supervisor stops
		defer close(r.done)
		read(p)
		rs.over(r)
	})
	return r
}

// over says how long a reading counts that has ended now, and forgets those of pools that
// nobody looks at any more.
func (rs *readings) over(ended *reading) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	now := time.Now()
	ended.until = now.Add(max(recentFor, recentShare*now.Sub(ended.began)))
	for id, r := range rs.of {
		if !r.until.IsZero() && now.After(r.until) {
			delete(rs.of, id)
		}
	}
}

// readRecent reads a pool. Nobody is refused anything if that fails: the catalog says what
// it knows.
func (s *Service) readRecent(p *store.Pool) {
	ctx, cancel := context.WithTimeout(context.Background(), freshTimeout)
	defer cancel()
	if err := s.freshenOne(ctx, p); err != nil {
		s.log.Debug("a pool could not be read for who looks at its volumes", "pool", p.Name, "error", err)
	}
}
