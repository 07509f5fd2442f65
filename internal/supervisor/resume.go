package supervisor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"storaged/internal/ipc"
	"storaged/internal/quantity"
	"storaged/internal/record"
	"storaged/internal/store"
)

// canGoOn reports whether a helper's death is no reason to end the job: it died
// by no fault of its own, nobody wanted it to, and the job has not been
// interrupted too often already.
func (j *job) canGoOn(e ending) bool {
	going := []record.State{record.Starting, record.Running, record.Paused, record.Finalizing, record.Recovering}
	died := !e.exit.Known || e.exit.Signal != 0 || e.exit.Code != 0
	return j.rec.Resume == record.ResumeAuto && j.rec.Resumed < j.s.attempts && !j.rec.Undo &&
		e.began && e.report == nil && e.torn == nil && !e.asked && e.fault == nil && died &&
		slices.Contains(going, j.rec.State)
}

// goOn makes the job ready for another helper, which goes on where the dead one
// was interrupted. The job keeps its locks and its slot, so that nobody else
// comes to its objects meanwhile.
func (j *job) goOn(why *record.Error) stage {
	j.become(record.Recovering)
	text := fmt.Sprintf("interrupted (%d of at most %d times): %s; %s", j.rec.Resumed+1, j.s.attempts, why.Message, j.onward())
	return j.ready(func(r *store.Job) {
		r.Resumed++
		r.Warnings = addWarnings(r.Warnings, []string{text})
	})
}

// onward says where the next helper begins, and why if that is at the start.
func (j *job) onward() string {
	m, err := j.mark()
	if err != nil {
		return "it begins anew: " + err.Error()
	}
	return fmt.Sprintf("it goes on at %s of %s", quantity.FormatBytes(m.Done), quantity.FormatBytes(m.Total))
}

// mark is the checkpoint of the job's helper. Its error says, for people, why there is none.
func (j *job) mark() (*ipc.Mark, error) {
	m, err := ipc.LoadMark(j.s.launcher.dir(j.id).Checkpoint())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errUnmarked
	}
	return m, err
}

var errUnmarked = errors.New("no checkpoint had been made yet")

// unreached says that the helper never got GO, by its own word.
func (e ending) unreached() bool { return e.report != nil && e.report.Untouched }

// unbegun is for a helper to which GO did not come before the daemon died.
func (j *job) unbegun() stage {
	if j.rec.Resumed == 0 {
		return (*job).requeue
	}
	return j.ready(func(*store.Job) {})
}

// ready records that the job waits to go on. One that was canceled since, or
// before the daemon went away, does not.
func (j *job) ready(change func(*store.Job)) stage {
	if j.rec.CancelAsk {
		return j.stopped()
	}
	since := j.run.goneAt.UTC()
	if j.run.goneAt.IsZero() {
		since = time.Now().UTC()
	}
	err := j.commit(func(r *store.Job) {
		change(r)
		r.State, r.Helper = record.Queued, nil
		if r.Interrupted == nil {
			r.Interrupted = &since
		}
		j.track.fill(&r.Job)
		r.Taken, r.Spent = j.track.takes(), together(r.Spent, j.track.spentUntil(since))
		r.Estimate, r.Progress.RateBytes = record.Estimate{}, 0
	}, nil)
	if err != nil {
		if !j.tryLater("job cannot go on yet", err) {
			return nil
		}
		return func(j *job) stage { return j.ready(change) }
	}
	if j.h != nil {
		j.h.close()
		j.h = nil
	}
	j.run.fresh()
	j.track.restart()
	if !j.begins() {
		return (*job).wait
	}
	return (*job).start
}

// stopped is the stage of a job that was interrupted and then canceled.
func (j *job) stopped() stage {
	v := decide(ending{began: true, asked: true, undoes: len(j.rec.UndoArgv) > 0})
	if v.settle {
		return j.settle(v)
	}
	j.verdict = &v
	return (*job).end
}

// begin notes when a job starts, or how long it was interrupted, during which
// it did nothing, as in a pause.
func begin(r *store.Job, now time.Time) {
	if r.Interrupted != nil {
		r.PausedS += seconds(now.Sub(*r.Interrupted))
		r.Interrupted = nil
	}
	if r.Started == nil || r.Resumed == 0 {
		r.Started = &now
	}
}

// over ends a job that waited. One that had begun earlier is settled first.
func (j *job) over() stage {
	if !j.rec.Go || len(j.rec.UndoArgv) == 0 {
		return (*job).end
	}
	v := *j.verdict
	j.verdict = nil
	return j.settle(v)
}

// keepsCheckpoint reports whether a retry may go on where the job ends.
func (j *job) keepsCheckpoint() bool {
	keeps := j.rec.Resume == record.ResumeKeep || j.rec.Resume == record.ResumeAuto
	return keeps && !j.rec.CancelAsk
}

// resumable is the checkpoint that a retry can go on from; nil without one, and
// where the work was done and found a difference. Of one that needs what is unfinished of a new volume, the helper that settled
// the job must have said that it is still there. Where a job has none that was interrupted,
// why says so.
func (j *job) resumable(v *verdict) (at *record.Resumable, why error) {
	differs := v.err != nil && v.err.Code == record.Mismatch
	if v.state != record.Failed || differs || !j.keepsCheckpoint() || !j.rec.Go {
		return nil, nil
	}
	m, err := j.mark()
	if err == nil && m.Draft != "" && (j.run.report == nil || !j.run.report.Resumable) {
		err = errors.New("what the checkpoint is of is not there any more")
	}
	switch {
	case err == nil:
		return &record.Resumable{Done: m.Done, Total: m.Total}, nil
	case v.err != nil && (v.err.Code == record.Killed || v.err.Code == record.Interrupted):
		return nil, err
	}
	return nil, nil
}

// dropCheckpoint removes the checkpoint of an ended job that nobody can go on
// from.
func (j *job) dropCheckpoint() {
	if j.rec.Resumable != nil {
		return
	}
	err := os.Remove(j.s.launcher.dir(j.id).Checkpoint())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		j.s.report(j.id, err)
	}
}

// resumeHint adds what to do to the error of a job that can be resumed.
func resumeHint(e *record.Error, number int64) *record.Error {
	with := *e
	return with.WithHint("%s goes on where it was interrupted", record.Do("job.retry", number))
}

// readyCheckpoint makes the checkpoint the one that the next helper is to have.
// One that begins anew must find none, lest a third goes on from that of the
// first.
func (j *job) readyCheckpoint() error {
	d := j.s.launcher.dir(j.id)
	switch {
	case !j.rec.Anew:
		if err := j.s.launcher.inherit(d, j.rec.From); err != nil {
			j.s.log.Warn("a job cannot go on where another was interrupted", "job", j.rec.Number, "error", err)
		}
	case !j.rec.Undo:
		if err := os.Remove(d.Checkpoint()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cannot remove the checkpoint of a job that begins anew: %w", err)
		}
	}
	return nil
}

// inherit gives a job that is to go on from another's checkpoint its own copy.
func (l launcher) inherit(d ipc.JobDir, from string) error {
	if from == "" {
		return nil
	}
	if _, err := os.Stat(d.Checkpoint()); err == nil {
		return nil // it has made one of its own, or was given it before
	}
	m, err := ipc.LoadMark(l.dir(from).Checkpoint())
	if errors.Is(err, fs.ErrNotExist) {
		return nil // forgotten meanwhile: it begins at the start
	}
	if err == nil {
		err = os.MkdirAll(d.State, 0o700)
	}
	if err != nil {
		return err
	}
	m.Read, m.Written = 0, 0 // which the other has in its own figures
	return ipc.SaveMark(d.Checkpoint(), *m)
}
