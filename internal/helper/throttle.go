package helper

import (
	"context"
	"sync"
)

// paced moves bytes for a run as fast as it may: a diskio.Pacer those of this
// process, another one those of a program that moves them itself.
type paced interface {
	// SetPace sets the rate, in bytes per second, 0 for as fast as can be, or pauses.
	// It holds for what begins from now on, and does not wait.
	SetPace(limit int64, paused bool)
	// Still returns when nothing moves any more of what is paused. An error says
	// that it was resumed before, or that ctx has ended.
	Still(ctx context.Context) error
}

// throttle limits and pauses all that moves bytes for a run. It is safe for
// concurrent use: who gives orders pauses, and the task rests.
type throttle struct {
	held   chan struct{}  // one token: a pause became complete
	asking sync.WaitGroup // for pauses to be complete

	mu     sync.Mutex
	moving []paced
	limit  int64
	paused bool
	pauses int // so far; tells them apart
	still  int // the last one that is complete
	rests  int // under way: nothing moves meanwhile either
}

// join has p keep to the pace of the others.
func (t *throttle) join(p paced) {
	t.set(func() { t.moving = append(t.moving, p) })
}

func (t *throttle) set(change func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	change()
	for _, p := range t.moving {
		p.SetPace(t.limit, t.paused || t.rests > 0)
	}
}

// setLimit takes bytes per second, 0 for none.
func (t *throttle) setLimit(limit int64) { t.set(func() { t.limit = limit }) }

// pause has nothing move until resume. It does not wait for that: held tells.
func (t *throttle) pause(ctx context.Context) {
	number := 0
	t.set(func() {
		t.paused = true
		t.pauses++
		number = t.pauses
	})
	t.asking.Go(func() {
		if t.await(ctx) != nil {
			return // resumed or canceled before it was complete
		}
		t.set(func() { t.still = max(t.still, number) }) // an older one may see a newer one complete
		select {
		case t.held <- struct{}{}:
		default: // the last one is not taken yet
		}
	})
}

// resume ends a pause, and does nothing without one.
func (t *throttle) resume() { t.set(func() { t.paused = false }) }

// now gives the limit, and whether there is a pause and that is complete.
func (t *throttle) now() (limit int64, paused, still bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.limit, t.paused, t.paused && t.still == t.pauses
}

// rest returns when nothing moves any more, whether or not there is a pause, and
// nothing does until end is called, once.
func (t *throttle) rest(ctx context.Context) (end func(), err error) {
	t.set(func() { t.rests++ })
	end = func() { t.set(func() { t.rests-- }) }
	if err := t.await(ctx); err != nil {
		end()
		return nil, err
	}
	return end, nil
}

func (t *throttle) await(ctx context.Context) error {
	t.mu.Lock()
	moving := t.moving
	t.mu.Unlock()
	for _, p := range moving {
		if err := p.Still(ctx); err != nil {
			return err
		}
	}
	return nil
}
