package helper

import (
	"context"
	"os"
	"sync"
	"syscall"
	"time"

	"storaged/internal/ipc"
)

// tickInterval is how often a run is looked at: often enough for a lively bar,
// and at most five progress frames a second for the daemon.
const tickInterval = 200 * time.Millisecond

// mode is how a run is watched and ordered about: as a job, or by hand.
type mode interface {
	view
	tick(r reading)   // regularly
	report(r reading) // because a signal asked for it
	// stop is told of a signal that asks to stop; leave says to go at once.
	stop(ctx context.Context, s os.Signal) (leave bool)
}

// conductor runs a task and serves, from one goroutine, whoever watches it and
// whoever gives it orders.
type conductor struct {
	run     *Run
	mode    mode
	signals <-chan os.Signal
	frames  <-chan ipc.Message                           // nil by hand
	obey    func(ctx context.Context, order ipc.Message) // is called for each of frames

	paused bool
	pauses int            // so far; tells acknowledgements apart
	quiet  chan int       // the pause of that number is complete
	asking sync.WaitGroup // for pauses to be complete
}

// conduct runs the task to its end. It returns nil when a person left before
// that.
func (c *conductor) conduct(ctx context.Context, t Task) *ipc.Report {
	done := make(chan *ipc.Report, 1)
	go func() { done <- c.run.do(ctx, t) }()
	c.quiet = make(chan int)
	defer c.asking.Wait()
	watching, stop := context.WithCancel(ctx)
	defer stop()
	tick := time.NewTicker(tickInterval)
	defer tick.Stop()
	for {
		select {
		case report := <-done:
			return report
		case order := <-c.frames:
			c.obey(watching, order)
		case s := <-c.signals:
			if c.signal(watching, s) {
				return nil
			}
		case n := <-c.quiet:
			if c.paused && n == c.pauses {
				c.run.view.progress(c.run.meter.read()) // as it stays
				c.mode.state(ipc.ActivityPaused)
			}
		case <-tick.C:
			c.mode.tick(c.run.meter.read())
		}
	}
}

// signal does what a signal asks for.
func (c *conductor) signal(ctx context.Context, s os.Signal) (leave bool) {
	switch s {
	case syscall.SIGUSR1:
		c.mode.report(c.run.meter.read())
	case syscall.SIGUSR2:
		c.pause(ctx, !c.paused)
	case syscall.SIGPIPE: // whoever read our words has gone; the work goes on
	default:
		return c.mode.stop(ctx, s)
	}
	return false
}

// pause holds the I/O, or lets it go on. That it is held is told when it is
// true.
func (c *conductor) pause(ctx context.Context, hold bool) {
	if hold == c.paused {
		return
	}
	c.paused = hold
	if !hold {
		c.run.Pacer.Resume()
		c.run.meter.forget()
		c.mode.state(ipc.ActivityRunning)
		return
	}
	c.pauses++
	number := c.pauses
	c.asking.Go(func() {
		if c.run.Pacer.Pause(ctx) != nil {
			return // resumed or canceled before it was complete
		}
		select {
		case c.quiet <- number:
		case <-ctx.Done():
		}
	})
}
