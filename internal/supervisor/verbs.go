package supervisor

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"storaged/internal/ipc"
	"storaged/internal/record"
	"storaged/internal/store"
	"storaged/internal/supervisor/schedule"
)

// verb carries a verb out: on a live job by its goroutine, on an ended one by
// ended, which is nil where no verb has an effect any more. It gives the job
// as it is afterwards.
func (s *Supervisor) verb(id string, a action, do func(*job) error) (record.Job, error) {
	if j := s.find(id); j != nil {
		err := j.call(do)
		if !errors.Is(err, errDone) {
			return j.view(), err
		}
	}
	rec, err := s.stored(id)
	if err != nil {
		return record.Job{}, err
	}
	if !rec.State.Terminal() {
		return withLists(rec.Job), s.open()
	}
	return withLists(rec.Job), permit(a, &rec.Job)
}

// Cancel stops a job: at once while it waits, else by the cancel ladder, or
// with now by a kill, whose traces another helper undoes. It returns when the
// cancel is recorded and sent; Wait gives the end. A job that is being
// canceled already is no error.
func (s *Supervisor) Cancel(id string, by record.Owner, now bool) (record.Job, error) {
	asked, a := time.Now(), cancelAction(now)
	return s.verb(id, a, func(j *job) error {
		if j.noticed.cancel.IsZero() && j.h != nil && permit(a, &j.rec.Job) == nil {
			j.noticed.cancel = asked
		}
		return j.onCancel(by, now)
	})
}

// Fail ends the helper of a job that is at work, as a cancel would; the job has
// failed with why. It returns when the helper is canceled.
func (s *Supervisor) Fail(id string, why *record.Error) (record.Job, error) {
	return s.verb(id, actCancel, func(j *job) error {
		if j.rec.State != record.Running {
			return record.Errorf(record.WrongState, "job %d is %s, not at work", j.rec.Number, j.rec.State)
		}
		j.stopHelper(why)
		return nil
	})
}

// Pause adds a reason to pause: that of the job's owner or, where by is somebody
// else, that of an administrator. The job is paused when its state says so.
func (s *Supervisor) Pause(id string, by record.Owner) (record.Job, error) {
	return s.verb(id, actPause, func(j *job) error {
		if err := permit(actPause, &j.rec.Job); err != nil {
			return err
		}
		reason := record.PauseAdmin
		if by.UID == j.rec.Owner.UID {
			reason = record.PauseUser
		}
		j.onReasons(pauseSet(j.rec.PauseReasons, reason, true), record.Change{What: record.ChangePause, Reason: reason, By: by})
		return nil
	})
}

// AwaitPaused gives a job that is to pause when it is paused, or does not
// run any more, or else as it is after a short while: its helper first ends the
// step that it is in.
func (s *Supervisor) AwaitPaused(ctx context.Context, id string) (record.Job, error) {
	j := s.find(id)
	if j == nil {
		return s.Job(id)
	}
	enough := time.NewTimer(s.times.PauseAck)
	defer enough.Stop()
	for {
		seen := j.shown.Load()
		pausing := len(seen.rec.PauseReasons) > 0 && (seen.rec.State == record.Starting || seen.rec.State == record.Running)
		if !pausing {
			return j.view(), nil
		}
		select {
		case <-seen.moved:
			continue
		case <-enough.C:
		case <-ctx.Done():
		case <-j.done:
		}
		return j.view(), nil
	}
}

// Resume takes reasons to pause away, and the doubt of a restored job; the job
// runs on when there is none any more. The owner takes its own away, somebody else that
// of an administrator as well.
func (s *Supervisor) Resume(id string, by record.Owner) (record.Job, error) {
	return s.verb(id, actResume, func(j *job) error {
		if err := permit(actResume, &j.rec.Job); err != nil {
			return err
		}
		rest := pauseSet(pauseSet(j.rec.PauseReasons, record.PauseUser, false), record.PauseRestored, false)
		if by.UID != j.rec.Owner.UID {
			rest = pauseSet(rest, record.PauseAdmin, false)
		}
		j.onReasons(rest, record.Change{What: record.ChangeResume, By: by})
		return nil
	})
}

// onReasons changes the reasons to pause and lets schedule or helper know when that
// makes the difference.
func (j *job) onReasons(reasons []string, c record.Change) {
	if slices.Equal(reasons, j.rec.PauseReasons) {
		return
	}
	was, is := len(j.rec.PauseReasons) > 0, len(reasons) > 0
	c.Time = time.Now().UTC()
	j.commitOrNote(func(r *store.Job) { r.PauseReasons, r.Changes = reasons, addChange(r.Changes, c) })
	switch {
	case was == is:
	case j.rec.State == record.Queued && is:
		j.entry.Hold(schedule.Paused)
	case j.rec.State == record.Queued:
		j.entry.Release()
	case j.h == nil || !j.rec.Go:
		// GO will say.
	case is:
		j.send(ipc.Pause{})
	default:
		j.send(ipc.Resume{})
	}
}

// maxChanges bounds what of a job's changes is kept: the newest.
const maxChanges = 64

func addChange(have []record.Change, c record.Change) []record.Change {
	if len(have) >= maxChanges {
		have = have[len(have)-maxChanges+1:]
	}
	return append(slices.Clone(have), c)
}

// SetLimit changes the rate of a job, in bytes per second; nil is no limit.
func (s *Supervisor) SetLimit(id string, rate *int64, by record.Owner) (record.Job, error) {
	return s.verb(id, actLimit, func(j *job) error {
		if err := permit(actLimit, &j.rec.Job); err != nil {
			return err
		}
		c := record.Change{Time: time.Now().UTC(), What: record.ChangeLimit, Limit: rate, By: by}
		j.commitOrNote(func(r *store.Job) { r.Limit, r.Changes = rate, addChange(r.Changes, c) })
		j.entry.SetLimit(deref(rate))
		j.sendRate()
		return nil
	})
}

// SetPriority changes a job's class in the scheduler.
func (s *Supervisor) SetPriority(id string, p record.Priority, by record.Owner) (record.Job, error) {
	return s.verb(id, actPriority, func(j *job) error {
		if err := permit(actPriority, &j.rec.Job); err != nil {
			return err
		}
		c := record.Change{Time: time.Now().UTC(), What: record.ChangePriority, Priority: p, By: by}
		if err := j.commit(func(r *store.Job) { r.Priority, r.Changes = p, addChange(r.Changes, c) }, nil); err != nil {
			return unwritable(err)
		}
		j.entry.SetPriority(p)
		return nil
	})
}

// SetPinned keeps a job's record from being pruned, or no longer.
func (s *Supervisor) SetPinned(id string, on bool) (record.Job, error) {
	return s.annotate(id, func(r *store.Job) { r.Pinned = on })
}

// SetLabels replaces a job's labels.
func (s *Supervisor) SetLabels(id string, labels map[string]string) (record.Job, error) {
	labels = maps.Clone(labels)
	return s.annotate(id, func(r *store.Job) { r.Labels = labels })
}

// annotate changes what has no effect on the job, live or ended.
func (s *Supervisor) annotate(id string, change func(*store.Job)) (record.Job, error) {
	if j := s.find(id); j != nil {
		err := j.call(func(j *job) error { return unwritable(j.commit(change, nil)) })
		if !errors.Is(err, errDone) {
			return j.view(), err
		}
	}
	var rec *store.Job
	err := s.store.Update(func(tx *store.Tx) (err error) {
		if rec, err = lookUp(tx, id); err != nil {
			return err
		}
		change(rec)
		return tx.PutJob(rec)
	})
	if err != nil {
		return record.Job{}, unwritable(err)
	}
	return withLists(rec.Job), nil
}
