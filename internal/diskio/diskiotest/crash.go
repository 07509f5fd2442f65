package diskiotest

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Observe calls see, from one goroutine, with counts when they have changed. stop waits for its end.
func Observe[C comparable](counts func() C, see func(C)) (stop func()) {
	const often = 50 * time.Millisecond
	quit := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		tick := time.NewTicker(often)
		defer tick.Stop()
		for last := counts(); ; {
			select {
			case <-quit:
				return
			case <-tick.C:
			}
			if now := counts(); now != last {
				see(now)
				last = now
			}
		}
	})
	return func() { close(quit); group.Wait() }
}

// ErrCrash ends a transfer as the death of its process would, as far as the
// next one can tell.
var ErrCrash = errors.New("the helper was killed")

// Crash is a transfer that ends at its first checkpoint at or behind a limit.
type Crash struct {
	Context context.Context // of the transfer
	limit   int64
	crash   context.CancelCauseFunc
	kept    atomic.Int64
}

// Save is for the checkpoints of the transfer.
func (c *Crash) Save(done int64) {
	c.kept.Store(done)
	if done >= c.limit {
		c.crash(ErrCrash)
	}
}

// Kept is the last checkpoint.
func (c *Crash) Kept() int64 { return c.kept.Load() }

const (
	// brisk is the limit of a transfer until it crawls.
	brisk = 16 * MiB
	// crawl is the limit of a transfer that is to end by a checkpoint: slow, so
	// that one comes before its end on the slowest disk, and yet fast enough for a
	// worker that was overtaken by the others to end its chunk, before which none comes.
	crawl = 128 << 10
	// ahead is how much workers may have done behind the last checkpoint.
	ahead = 3 * MiB
)

// CrashAt makes one that crawls when it must have come to limit, by what it has
// done.
func CrashAt(t testing.TB, limit int64, p interface{ SetLimit(bytesPerSec int64) }, done func() int64) *Crash {
	ctx, crash := context.WithCancelCause(context.Background())
	c := &Crash{Context: ctx, limit: limit, crash: crash}
	p.SetLimit(brisk)
	var group sync.WaitGroup
	group.Go(func() {
		for look := time.NewTicker(time.Millisecond); ctx.Err() == nil; <-look.C {
			if done() >= limit+ahead {
				p.SetLimit(crawl)
			}
		}
	})
	t.Cleanup(func() {
		crash(ErrCrash)
		group.Wait()
	})
	return c
}
