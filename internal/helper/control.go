package helper

import (
	"context"
	"fmt"
	"os"
	"sync"
)

// control decides whether a cancel still comes in time. It is safe for
// concurrent use.
//
//	open ──▶ sealed      the point of no return was reached first
//	  └────▶ canceled    the cancel was first
type control struct {
	stop context.CancelCauseFunc

	mu    sync.Mutex
	stage stage
	cause cancelCause
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
