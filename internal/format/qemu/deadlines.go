package qemu

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Deadlines. Each is far more than it takes where the disk answers, and there so that
// what hangs ends with an error.
const (
	// startTime is what a child may take until its images are open, beside the
	// processor's time: 5 ms on an idle machine, and what a device takes to read tables.
	startTime = 2 * time.Minute
	// waitsFor is how many may share a processor.
	waitsFor = 8
	// amendTime is for a change of keys: all eight may be tried twice, each of which
	// takes a minute of the processor at most.
	amendTime = time.Hour
	// rebaseTime is for a change of a header.
	rebaseTime = 10 * time.Minute
	// tablesTime is for what is done to tables; what storage is written with that, or
	// read, at least slowest bytes a second.
	tablesTime = 10 * time.Minute
	slowest    = 1 << 20
	// closing is for closing an image. That is not canceled: what was written has to be
	// in order. Contents were flushed before.
	closing = 5 * time.Minute
	// patience is how long a child may be silent, after a cancel, that was asked for
	// something: for a MiB, or to write the rest of its tables. A disk that answers
	// takes a second, one that tries a bad block again and again some more.
	patience = 15 * time.Second
)

// within bounds what is done to an image.
func within(ctx context.Context, most time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, most, fmt.Errorf("it was not done within %v: %w", most, context.DeadlineExceeded))
}

// due is how long it may take to read or write so many bytes, and tables.
func due(bytes int64) time.Duration {
	const most = 1 << 32 // seconds, a duration has no more than twice as many
	return tablesTime + time.Duration(min(bytes/slowest, most))*time.Second
}

// ErrSilent says that a child was ended since it did not answer when the job was
// canceled. What it wrote may have to be repaired.
var ErrSilent = errors.New("it did not answer")

// asked knows what a child was asked for, and when it answered last.
type asked struct {
	mu      sync.Mutex
	pending int
	last    time.Time // that an answer came, or the first question after that
}

// do asks for something.
func (a *asked) do(what func() error) error {
	a.count(1)
	defer a.count(-1)
	return what()
}

func (a *asked) count(more int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.pending == 0 || more < 0 {
		a.last = time.Now()
	}
	a.pending += more
}

// silent is how long it has not answered, from some time on.
func (a *asked) silent(from time.Time) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.pending == 0 {
		return 0
	}
	return min(time.Since(a.last), time.Since(from))
}

// looks is how often a child is looked at while it may be silent.
const looks = 8

// watch ends a child by end that is silent for so long after ctx was canceled. It
// returns when the child has ended.
func (a *asked) watch(ctx context.Context, most time.Duration, child <-chan struct{}, end func(cause error)) {
	select {
	case <-child:
		return
	case <-ctx.Done():
	}
	canceled := time.Now()
	tick := time.NewTicker(most / looks)
	defer tick.Stop()
	for a.silent(canceled) < most {
		select {
		case <-child:
			return
		case <-tick.C:
		}
	}
	end(fmt.Errorf("%w for %v after a cancel: %w", ErrSilent, most, context.Cause(ctx)))
}
