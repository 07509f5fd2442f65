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

// cancelCause says who canceled a run. It is context.Canceled to errors.Is.
type cancelCause struct {
	signal os.Signal // nil: by a CANCEL frame
	sender int       // pid that sent the signal, 0 if not known
}

func (c cancelCause) Error() string {
	switch {
	case c.signal == nil:
		return "canceled"
	case c.sender > 0:
		return fmt.Sprintf("canceled by a signal (%v) from process %d", c.signal, c.sender)
	default:
		return fmt.Sprintf("canceled by a signal (%v)", c.signal)
	}
}

func (c cancelCause) Is(target error) bool { return target == context.Canceled }

// cancel stops the run, unless its point of no return is behind it. It gives
// the stage after that; of several causes the first stays.
func (c *control) cancel(cause cancelCause) stage {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stage == open {
		c.stage, c.cause = canceled, cause
		c.stop(cause)
	}
	return c.stage
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

// why is the cause of the cancel.
func (c *control) why() cancelCause {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cause
}

// stageNow is the stage at this moment.
func (c *control) stageNow() stage {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stage
}
