package helper

import (
	"context"
	"os"
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
}

// conduct runs the task to its end. It returns nil when a person left before
// that.
func (c *conductor) conduct(ctx context.Context, t Task) *ipc.Report {
	done := make(chan *ipc.Report, 1)
	go func() { done <- c.run.do(ctx, t) }()
	defer c.run.throttle.asking.Wait()
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
		case <-c.run.throttle.held:
			if _, _, still := c.run.throttle.now(); still {
				c.paused()
			}
		case <-c.run.guard.changed:
			c.stand()
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
		_, paused, _ := c.run.throttle.now()
		c.pause(ctx, !paused)
	case syscall.SIGPIPE: // whoever read our words has gone; the work goes on
	default:
		return c.mode.stop(ctx, s)
	}
	return false
}

// pause holds the I/O, or lets it go on. That it is held is told when it is
// true.
func (c *conductor) pause(ctx context.Context, hold bool) {
	switch _, paused, _ := c.run.throttle.now(); {
	case hold == paused:
	case hold:
		c.run.throttle.pause(ctx)
	default:
		c.run.throttle.resume()
		c.stand()
	}
}

// stand tells whether the run goes on or not: who gave the orders may not be the only one
// who holds it.
func (c *conductor) stand() {
	switch _, paused, still := c.run.throttle.now(); {
	case c.run.guard.waiting() != "" || still:
		c.paused()
	case !paused:
		c.run.meter.forget()
		c.mode.state(ipc.ActivityRunning)
	}
}

// paused tells that nothing moves.
func (c *conductor) paused() {
	c.run.view.progress(c.run.meter.read()) // as it stays
	c.mode.state(ipc.ActivityPaused)
}
