package supervisor

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"storaged/internal/record"
	"storaged/internal/store"
	"storaged/internal/supervisor/process"
)

// After damage the database may be older than what jobs have done since. Their
// directories have the rest: the record as it was when the helper was let go,
// and the result.

// leaveRecord writes the job's record beside its result. It is not waited for
// until it is durable: it counts only when the database is lost, and a host
// that loses power and its database in the same seconds has no promise of ours.
func (j *job) leaveRecord() {
	path := j.s.launcher.dir(j.id).Record()
	b, err := store.SealJob(&j.rec)
	if err == nil {
		err = os.WriteFile(path+".new", b, 0o600)
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		j.s.log.Warn("a job leaves no record beside its result", "job", j.rec.Number, "error", err)
	}
}

// replay brings the records of jobs up to what their directories say. It runs
// before the locks are rebuilt. What a directory says is ended is ended, in
// the order of the ends; what lives, or has to be settled, Start takes up.
func (s *Supervisor) replay() error {
	found, err := s.dirRecords()
	if err != nil {
		return err
	}
	for _, l := range found {
		if err := s.replayJob(l); err != nil {
			return fmt.Errorf("cannot take up job %d from its directory: %w", l.rec.Number, err)
		}
	}
	// A copy names the writers of then, and the directories of jobs that were
	// forgotten since are gone.
	if err := s.store.Update((*store.Tx).ForgetWriters); err != nil {
		return fmt.Errorf("cannot mark what the database does not vouch for: %w", err)
	}
	return s.holdDoubtful()
}

// dirRecord is what a directory says of a job that the database does not
// know, or knows from a copy only.
type dirRecord struct {
	rec   *store.Job
	ended time.Time // when the result was written; zero: there is none
}

// dirRecords gives them in the order of their ends, unfinished ones last.
func (s *Supervisor) dirRecords() ([]dirRecord, error) {
	var found []dirRecord
	for _, id := range jobDirs(s.launcher.state) {
		d := s.launcher.dir(id)
		known, err := s.stored(id)
		if err == nil && (!known.Old || known.State.Terminal()) {
			continue
		}
		if err != nil && record.CodeOf(err) != record.NotFound {
			return nil, err
		}
		b, err := os.ReadFile(d.Record())
		if errors.Is(err, os.ErrNotExist) {
			continue // its helper was never let go
		}
		var rec *store.Job
		if err == nil {
			rec, err = store.OpenSealedJob(id, b)
		}
		if err != nil {
			s.log.Error("a job's directory says nothing of it", "id", id, "error", err)
			continue
		}
		l := dirRecord{rec: rec}
		if st, err := os.Stat(d.Result()); err == nil {
			l.ended = st.ModTime()
		}
		found = append(found, l)
	}
	slices.SortFunc(found, func(a, b dirRecord) int {
		if a.ended.IsZero() != b.ended.IsZero() {
			return b.ended.Compare(a.ended) // zero, which is unfinished, is before all times
		}
		return cmp.Or(a.ended.Compare(b.ended), cmp.Compare(a.rec.Number, b.rec.Number))
	})
	return found, nil
}

// replayJob records a job as its directory has it, and its end if there is one.
func (s *Supervisor) replayJob(l dirRecord) error {
	l.rec.Warnings = addWarnings(l.rec.Warnings, []string{"the database was damaged; this record was made again from the job's directory"})
	err := s.store.Update(func(tx *store.Tx) error {
		if err := tx.RaiseNumber(l.rec.Number); err != nil {
			return err
		}
		var refusal *record.Error
		again := *l.rec // what the catalog makes of the grant; the job itself had it
		if err := s.catalog.Granted(tx, &again); err != nil && !errors.As(err, &refusal) {
			return err
		}
		return tx.PutJob(l.rec)
	})
	if err != nil {
		return err
	}
	held, err := s.launcher.find(s.launcher.dir(l.rec.ID)).Held()
	if held || err != nil || l.ended.IsZero() {
		return err
	}
	s.replayEnd(l)
	return nil
}

// replayEnd ends a job whose result is there, unless another helper has to
// settle it.
func (s *Supervisor) replayEnd(l dirRecord) {
	j := newJob(s, l.rec, nil)
	j.run.adopted, j.run.exit, j.run.unseen = true, process.Exit{Code: -1}, new(l.ended.UTC())
	j.run.first = firstVerdict(&j.rec)
	if v := j.judgement(j.ending()); !v.settle && j.run.report != nil {
		j.verdict = &v
		j.end()
	}
}

// holdDoubtful keeps jobs that only a copy of the database knows, and that had
// not begun, from beginning now: somebody may have canceled them since.
func (s *Supervisor) holdDoubtful() error {
	return s.store.Update(func(tx *store.Tx) error {
		live, err := tx.LiveJobs()
		if err != nil {
			return err
		}
		for _, j := range live {
			if !j.Old || j.Go {
				continue
			}
			j.PauseReasons = pauseSet(j.PauseReasons, record.PauseRestored, true)
			j.Warnings = addWarnings(j.Warnings, []string{"the database was damaged; this job is as an older copy had it, and held lest it was canceled since"})
			if err := tx.PutJob(j); err != nil {
				return err
			}
		}
		return nil
	})
}
