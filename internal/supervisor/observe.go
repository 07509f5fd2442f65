package supervisor

import (
	"time"

	"storaged/internal/record"
)

// Observer hears of every job that has ended, once, when the end is durable, and of every
// helper that died without a result, unless we had killed it: what becomes of its job is not
// known then. It is called by the job's goroutine and must not block.
type Observer interface {
	JobEnded(o Observation)
	HelperDied(j record.Job, cause *record.Error)
}

// Observation is what the life of a job was like. What happened while another
// daemon had the job is not in it.
type Observation struct {
	Job        record.Job
	Destroys   bool          // content that there was
	Queued     time.Duration // until it was started, or until its end
	LockWaited bool          // it did not get its locks at once

	// Of a cancel of a job with a helper: from the request until the helper
	// heard of it, and until nothing could write any more. nil: not so.
	CancelSent *time.Duration
	Stopped    *time.Duration

	// ln(actual/predicted remaining time) at each tenth of the work of a job
	// that succeeded; nil where nothing was predicted.
	Errors []*float64
}

// noticed is what the job's goroutine notes for its Observation.
type noticed struct {
	cancel     time.Time // when the first cancel was asked for
	cancelSent *time.Duration
	stopped    *time.Duration
}

// observe gives the job to the Observer.
func (j *job) observe() {
	if j.s.observer == nil {
		return
	}
	r := &j.rec.Job
	granted := r.Started
	if granted == nil {
		granted = r.Ended
	}
	o := Observation{
		Job: j.view(), Destroys: j.rec.Destroys, Queued: granted.Sub(r.Created), LockWaited: j.entry.Waited(),
		CancelSent: j.noticed.cancelSent, Stopped: j.noticed.stopped,
	}
	if r.State == record.Succeeded {
		o.Errors = j.track.errors()
	}
	j.s.observer.JobEnded(o)
}

// noteCancelSent notes that the helper was canceled.
func (j *job) noteCancelSent() {
	if n := &j.noticed; !n.cancel.IsZero() && n.cancelSent == nil {
		n.cancelSent = new(time.Since(n.cancel))
	}
}

// noteStopped notes that nobody can write any more.
func (j *job) noteStopped() {
	if n := &j.noticed; !n.cancel.IsZero() && n.stopped == nil {
		n.stopped = new(time.Since(n.cancel))
	}
}

// noteDeath tells of a helper that ended without a result, unless the cancel
// ladder or we for another reason killed it.
func (j *job) noteDeath(e ending) {
	if e.report == nil && e.exit.Known && j.run.ladder.rung < rungKill && j.s.observer != nil {
		j.s.observer.HelperDied(j.view(), e.cause())
	}
}

// Tally names what Census counts.
type Tally struct {
	Kind  record.Kind
	State record.State
}

// Census is how the live jobs of a kind and state are.
type Census struct {
	Jobs    int
	Stalled int   // of them, that make no progress though they should
	Stuck   int   // of them, whose helper does not end when it is killed
	Rate    int64 // bytes per second that they work off
}

// Census counts the live jobs.
func (s *Supervisor) Census() map[Tally]Census {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[Tally]Census{}
	for _, j := range s.live {
		seen := j.shown.Load()
		t := Tally{seen.rec.Kind, seen.rec.State}
		n := out[t]
		n.add(j, seen)
		out[t] = n
	}
	return out
}

// add counts a job. One that is paused or waits has no rate, and does not stall.
func (c *Census) add(j *job, seen *shown) {
	c.Jobs++
	if seen.stuck != nil {
		c.Stuck++
	}
	if s := seen.rec.State; s != record.Running && s != record.Finalizing {
		return
	}
	rate, stalled := j.track.pace()
	c.Rate += rate
	if stalled {
		c.Stalled++
	}
}
