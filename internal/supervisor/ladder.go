package supervisor

import (
	"fmt"
	"syscall"
	"time"

	"storaged/internal/ipc"
	"storaged/internal/record"
	"storaged/internal/store"
)

// rung is how far the stopping of a helper has gone.
type rung int

const (
	rungNone   rung = iota
	rungCancel      // CANCEL and SIGTERM to the helper
	rungTerm        // SIGTERM to all that it started
	rungKill        // all killed, again and again
)

// ladder is the one alarm over a helper: before a cancel it bounds the wait for
// HELLO and, after the result, for the exit; from the cancel on it is the
// cancel ladder.
type ladder struct {
	rung     rung
	acked    bool // the helper says that it stops or undoes
	timer    *time.Timer
	canceled time.Time // when the helper was
	since    time.Time // of the first kill
}

func (l *ladder) arm(d time.Duration) {
	if l.timer == nil {
		l.timer = time.NewTimer(d)
		return
	}
	l.timer.Reset(d)
}

func (l *ladder) disarm() {
	if l.timer != nil {
		l.timer.Stop()
	}
}

// c never fires while the ladder is not armed.
func (l *ladder) c() <-chan time.Time {
	if l.timer == nil {
		return nil
	}
	return l.timer.C
}

// climb takes the next step when a wait is over.
func (j *job) climb() {
	if j.run.gone {
		return // askLock deals with what it started
	}
	l := &j.run.ladder
	quiet := time.Since(j.run.heard)
	switch {
	case l.rung == rungNone && !j.run.hello:
		j.unheard()
	case l.rung == rungNone && j.run.result != nil:
		j.kill() // it announced its result and does not go
	case (l.rung == rungNone || l.acked) && quiet < j.s.times.Silence:
		l.arm(j.s.times.Silence - quiet) // it undoes or settles, and shows that it lives
	case l.rung == rungNone:
		j.blame(record.Errorf(record.Interrupted, "the helper that settles the job was silent for %v", j.s.times.Silence))
		j.kill()
	case l.rung == rungCancel:
		l.rung, l.acked = rungTerm, false
		if err := j.h.family.Signal(syscall.SIGTERM); err != nil {
			j.s.log.Warn("cannot signal a helper and its tools", "job", j.rec.Number, "error", err)
		}
		l.arm(j.s.times.GroupTerm)
	case l.rung == rungTerm:
		j.warn(fmt.Sprintf("the helper did not stop for %v after it was told to, and was killed by force", time.Since(l.canceled).Round(time.Second)))
		j.setAwaited(nil)
		j.kill()
	default:
		j.kill()
	}
}

// unheard deals with a helper that did not say HELLO in time. An adopted one
// goes on: it works, and may be unable to answer for a reason that ends.
func (j *job) unheard() {
	if j.run.adopted {
		j.warn("the helper lives, but did not answer for a while after storaged had been started again")
		j.send(ipc.Resync{})
		j.run.ladder.arm(j.s.times.Silence)
		return
	}
	j.blame(record.Errorf(record.Internal, "the helper did not say HELLO within %v", j.s.times.Hello).
		WithHint("see the job's log; is the helper binary of the same version as storaged?"))
	j.kill()
}

// cancelHelper is the first rung: the helper itself is canceled, by frame and by
// signal, and gets time to acknowledge.
func (j *job) cancelHelper() {
	if j.run.gone || j.run.ladder.rung >= rungCancel {
		return
	}
	j.run.ladder.rung = rungCancel
	j.send(ipc.Cancel{})
	j.noteCancelSent()
	if err := j.h.proc.Signal(syscall.SIGTERM); err != nil {
		j.s.log.Warn("cannot signal a helper", "job", j.rec.Number, "error", err)
	}
	j.run.ladder.arm(j.s.times.CancelAck)
	now := time.Now().UTC()
	j.run.ladder.canceled = now
	j.setAwaited(&record.Blocker{
		For: "helper", Since: now, ExpectedEnd: new(now.Add(j.s.times.CancelAck + j.s.times.GroupTerm)),
		Holder: &record.Holder{External: fmt.Sprintf("helper pid %d", j.h.pid())},
	})
}

// kill is the last rung. It is repeated for what was forked meanwhile; a
// process that it does not end is called stuck.
func (j *job) kill() {
	if j.run.gone {
		return
	}
	l := &j.run.ladder
	if l.rung < rungKill {
		l.rung, l.since = rungKill, time.Now()
	}
	l.acked = false
	if err := j.h.family.Kill(); err != nil {
		j.s.log.Warn("cannot kill a helper", "job", j.rec.Number, "error", err)
	}
	if time.Since(l.since) > j.s.times.Stuck {
		j.callStuck()
	}
	l.arm(j.s.times.KillAgain)
}

func cancelAction(now bool) action {
	if now {
		return actKill
	}
	return actCancel
}

// onCancel is the verb, in every state that permits it.
func (j *job) onCancel(by record.Owner, now bool) error {
	if err := permit(cancelAction(now), &j.rec.Job); err != nil {
		return err
	}
	was := j.rec.State
	if !j.rec.CancelAsk {
		j.commitOrNote(func(r *store.Job) {
			r.CancelAsk, r.CanceledBy, r.PauseReasons = true, &by, nil
			if was != record.Queued && was != record.Recovering {
				r.State = record.Canceling
			}
		})
	}
	switch {
	case j.h == nil && was == record.Queued:
		j.entry.Leave()
		j.verdict = &verdict{state: record.Canceled, err: canceledError(), rollback: record.RollbackNone}
	case j.h == nil || j.rec.Undo:
		// Between two helpers, or settled already: it counts at the judging.
	case now || !j.rec.Go:
		j.kill()
	default:
		j.cancelHelper()
	}
	return nil
}
