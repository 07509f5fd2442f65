package diskio

import (
	"context"
	"slices"
	"sync"
	"time"
)

const (
	// checkpointEvery is the least time between two checkpoints: what an
	// interruption costs at most, while it costs nothing to speak of.
	checkpointEvery = 3 * time.Second
	// checkpointShare bounds what checkpoints take where flushing is slow: one
	// part of so many of the time.
	checkpointShare = 50
	// checkpointLatest bounds the time between two all the same: the transfer
	// goes on meanwhile, and an interruption is not to cost more.
	checkpointLatest = 30 * time.Second
)

// Checkpoints lets a transfer begin where an earlier one was interrupted, and
// tells now and then how far this one is for certain. The zero value does
// neither.
type Checkpoints struct {
	// From is up to where all is in place and durable, in bytes of the phase,
	// by the last word of the earlier transfer. It counts as done at once, and
	// nothing of it is read or written.
	From int64
	// Save is told up to where a later transfer needs not look. It is called
	// by one goroutine at a time, never after the transfer has returned, and
	// must not block for long; a failure to keep it is its own affair.
	Save func(done int64)
	// Every is the time between two calls of Save; 0 is a few seconds, and more
	// where it takes long to make anything durable.
	Every time.Duration
}

// next is the time to the next checkpoint when the last took so long.
func (c Checkpoints) next(took time.Duration) time.Duration {
	if c.Every > 0 {
		return c.Every
	}
	return min(max(checkpointEvery, took*checkpointShare), checkpointLatest)
}

// checkpointer makes the checkpoints of one run of streams. A nil one makes
// none.
type checkpointer struct {
	Checkpoints
	base int64                           // what came before the streams' first byte, in bytes of the phase
	sync func(ctx context.Context) error // makes durable what was done; nil where nothing is written

	mu    sync.Mutex
	dealt int64   // where the next chunk begins, at the least
	open  []int64 // offsets of the chunks under way
	last  int64   // as told last
}

// from is where the streams have to begin: at a page, whatever somebody kept.
func (c *checkpointer) from() int64 {
	if c == nil {
		return 0
	}
	return max(0, c.From-c.base) &^ (pageSize - 1)
}

// deal says that the chunk at off is about to be moved.
func (c *checkpointer) deal(off int64) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open = append(c.open, off)
}

// pass says that every chunk before off was dealt.
func (c *checkpointer) pass(off int64) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dealt = off
}

// done says that the chunk at off was moved.
func (c *checkpointer) done(off int64) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open = slices.DeleteFunc(c.open, func(o int64) bool { return o == off })
}

// reached is up to where everything was moved. Workers end in any order.
func (c *checkpointer) reached() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.open) > 0 {
		return slices.Min(c.open)
	}
	return c.dealt
}

// start makes checkpoints until stop is called, which waits for the one that is
// being made. An error of the device is final and told to fail.
func (c *checkpointer) start(ctx context.Context, fail context.CancelCauseFunc) (stop func()) {
	if c == nil || c.Save == nil {
		return func() {}
	}
	ctx, end := context.WithCancel(ctx)
	var group sync.WaitGroup
	group.Go(func() {
		if err := c.run(ctx); err != nil && ctx.Err() == nil {
			fail(err)
		}
	})
	return func() {
		end()
		group.Wait()
	}
}

func (c *checkpointer) run(ctx context.Context) error {
	wait := time.NewTimer(c.next(0))
	defer wait.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-wait.C:
		}
		begun := time.Now()
		if err := c.make(ctx); err != nil {
			return err
		}
		wait.Reset(c.next(time.Since(begun)))
	}
}

// make makes one checkpoint: first it looks how far everything is, then makes
// that durable, then tells.
func (c *checkpointer) make(ctx context.Context) error {
	at := c.base + c.reached()
	if at <= max(c.last, c.From) {
		return nil
	}
	if c.sync != nil {
		if err := c.sync(ctx); err != nil {
			return err
		}
	}
	c.last = at
	c.Save(at)
	return nil
}

// syncWith makes what was written durable. The kernel tells an error of the
// write-back only once, and it may have told the flusher.
func syncWith(p *Pacer, w *flusher) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		if err := dataSync(ctx, p, w.c); err != nil {
			return err
		}
		return w.trouble()
	}
}
