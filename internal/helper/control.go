package helper

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"
)

// control decides whether a cancel still comes in time. It is safe for
// concurrent use.
//
//	open ──▶ sealed      the point of no return was reached first
//	  └────▶ canceled    the cancel was first
type control struct {
	stop  context.CancelCauseFunc
	asked chan struct{} // closed by the first cancel, whether it comes in time or not

	mu    sync.Mutex
	stage stage
	cause cancelCause
	once  sync.Once
}

type stage int

const (
	open stage = iota
	sealed
	canceled
)

// cancelCause says what canceled a run. It is context.Canceled to errors.Is.
type cancelCause struct {
	signal os.Signal // nil: by a CANCEL frame
}

func (c cancelCause) Error() string {
	if c.signal == nil {
		return "canceled"
	}
	return fmt.Sprintf("canceled by a signal (%v)", c.signal)
}

func (c cancelCause) Is(target error) bool { return target == context.Canceled }

// cancel stops the run, unless its point of no return is behind it. It gives
// the stage after that, and whether this is what brought it there; of several causes
// the first stays.
func (c *control) cancel(cause cancelCause) (now stage, first bool) {
	c.once.Do(func() { close(c.asked) })
	c.mu.Lock()
	defer c.mu.Unlock()
	if first = c.stage == open; first {
		c.stage, c.cause = canceled, cause
		c.stop(cause)
	}
	return c.stage, first
}

// seal passes the point of no return. It fails when a cancel was first.
func (c *control) seal() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stage == canceled {
		return c.cause
	}
	c.stage = sealed
	return nil
}

// stopped is the cause of a cancel, nil without one.
func (c *control) stopped() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stage == canceled {
		return c.cause
	}
	return nil
}

// completingTime is how long what is completed or undone may take after a cancel, if it
// is done by a child: to change a header takes no time where the disk answers, and to
// try keys some seconds.
const completingTime = time.Minute

// Completing is for what is done behind the point of no return, and for what undoes. A
// cancel does not end it, but bounds it: a child may hang.
func (r *Run) Completing(ctx context.Context) (_ context.Context, done func()) {
	ctx, end := context.WithCancelCause(context.WithoutCancel(ctx))
	var waiting sync.WaitGroup
	waiting.Go(func() {
		select {
		case <-ctx.Done():
			return
		case <-r.control.asked:
		}
		late := time.NewTimer(completingTime)
		defer late.Stop()
		select {
		case <-ctx.Done():
		case <-late.C:
			end(fmt.Errorf("it was not done within %v after a cancel: %w", completingTime, context.DeadlineExceeded))
		}
	})
	return ctx, func() {
		end(nil)
		waiting.Wait()
	}
}
