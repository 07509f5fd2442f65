package supervisor

import (
	"errors"
	"fmt"
	"os"
	"time"

	"storaged/internal/record"
	"storaged/internal/store"
)

// Retention says how long records of ended jobs are kept, by class. Each class
// has its own count, so that none crowds out another. A pinned job is kept for
// ever.
type Retention struct {
	Ordinary    Keep // jobs that succeeded or were canceled
	Failed      Keep
	Routine     Keep // refresh, start and stop of pools
	Destructive Keep // jobs that destroyed content, however they ended
}

// Keep bounds a class of ended jobs by age and by number; 0 is no bound.
type Keep struct {
	Age   time.Duration
	Count int
}

const (
	// pruneBatch is how many records are removed in one transaction: few
	// enough that a submit behind it waits milliseconds.
	pruneBatch = 100

	// keyLife is how long a job with an idempotency key is kept at least: a client that lost its answer comes again within.
	keyLife = 24 * time.Hour
)

// bound gives the bound on a job's class.
func (r *Retention) bound(h *store.JobHead) *Keep {
	switch {
	case h.Destroys:
		return &r.Destructive
	case h.Kind == record.PoolRefresh || h.Kind == record.PoolStart || h.Kind == record.PoolStop:
		return &r.Routine
	case h.State == record.Failed:
		return &r.Failed
	}
	return &r.Ordinary
}

// pruner is shown the jobs newest first and says whose record is too old or
// one too many.
type pruner struct {
	retention Retention
	now       time.Time
	seen      map[*Keep]int
}

func (p *pruner) due(h *store.JobHead) bool {
	if !h.State.Terminal() || h.Pinned {
		return false
	}
	bound := p.retention.bound(h)
	p.seen[bound]++
	age := p.now.Sub(h.Ended)
	if h.Key != "" && age < keyLife {
		return false
	}
	return bound.Age > 0 && age > bound.Age || bound.Count > 0 && p.seen[bound] > bound.Count
}

// keepHistory prunes now and then, until the supervisor stops. It is the
// goroutine that Start starts for it.
func (s *Supervisor) keepHistory() {
	tick := time.NewTicker(s.times.Prune)
	defer tick.Stop()
	for {
		if n, err := s.Prune(); err != nil {
			s.log.Error("history of jobs is not pruned", "error", err)
		} else if n > 0 {
			s.log.Info("history of jobs is pruned", "records", n)
		}
		select {
		case <-tick.C:
		case <-s.stopping:
			return
		}
	}
}

// Prune removes the records of ended jobs that are kept no longer, with their
// files, and gives their number. It ends early when the supervisor stops.
func (s *Supervisor) Prune() (removed int, err error) {
	due, err := s.dueJobs()
	if err != nil {
		return 0, err
	}
	for len(due) > 0 {
		select {
		case <-s.stopping:
			return removed, nil
		default:
		}
		batch := due[:min(len(due), pruneBatch)]
		due = due[len(batch):]
		n, err := s.drop(batch)
		removed += n
		if err != nil {
			return removed, err
		}
	}
	return removed, nil
}

// dueJobs lists the numbers of jobs whose record is to go.
func (s *Supervisor) dueJobs() (due []int64, err error) {
	p := pruner{retention: *s.retention.Load(), now: s.clock(), seen: map[*Keep]int{}}
	err = s.store.View(func(tx *store.Tx) error {
		return tx.JobsBefore(0, func(h *store.JobHead, _ func() (*store.Job, error)) (bool, error) {
			if p.due(h) {
				due = append(due, h.Number)
			}
			return true, nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read history: %w", err)
	}
	return due, nil
}

// drop removes records in one transaction, except those that were pinned or
// forgotten meanwhile, and then their files. Files that a crash leaves are
// found by the next start.
func (s *Supervisor) drop(numbers []int64) (int, error) {
	var ids []string
	err := s.store.Update(func(tx *store.Tx) error {
		ids = ids[:0]
		for _, n := range numbers {
			j, err := tx.JobByNumber(n)
			if errors.Is(err, store.ErrNotFound) || err == nil && j.Pinned {
				continue
			}
			if err != nil {
				return err
			}
			if err := tx.DeleteJob(n); err != nil {
				return err
			}
			ids = append(ids, j.ID)
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("cannot remove records: %w", err)
	}
	for _, id := range ids {
		s.report(id, os.RemoveAll(s.launcher.dir(id).State))
	}
	return len(ids), nil
}

// Forget removes the record of an ended job, its log and its files. Of a job
// that may have destroyed content, since its helper was let go, it keeps
// number, kind, objects, owner, state and times, as long as that of any such
// job is kept, and gives that; nil where nothing is. A pinned job refuses.
func (s *Supervisor) Forget(id string) (trace *record.Job, err error) {
	if j := s.find(id); j != nil {
		return nil, permit(actForget, &j.shown.Load().rec.Job)
	}
	var rec *store.Job
	err = s.store.Update(func(tx *store.Tx) (err error) {
		trace = nil
		if rec, err = lookUp(tx, id); err != nil {
			return err
		}
		if err := forgettable(&rec.Job); err != nil {
			return err
		}
		if !rec.Destroys || !rec.Go && !rec.Forgotten {
			return tx.DeleteJob(rec.Number)
		}
		kept := tombstone(rec)
		trace = new(withLists(kept.Job))
		return tx.PutJob(kept)
	})
	if err != nil {
		return nil, unwritable(err)
	}
	if err := os.RemoveAll(s.launcher.dir(rec.ID).State); err != nil {
		return nil, fmt.Errorf("job %d is forgotten, but its files are not removed: %w", rec.Number, err)
	}
	return trace, nil
}

// forgettable refuses a job that lives or is pinned.
func forgettable(j *record.Job) error {
	if j.Pinned {
		return record.Errorf(record.WrongState, "job %d is pinned", j.Number).WithHint("%s", record.Do("job.pin", j.Number).With("off"))
	}
	return permit(actForget, j)
}

// tombstone is what is kept of a forgotten job. The idempotency key stays: a
// repeated request must not destroy again.
func tombstone(r *store.Job) *store.Job {
	return &store.Job{
		Job: record.Job{
			ID: r.ID, Number: r.Number, Kind: r.Kind, Class: r.Class, State: r.State, Objects: r.Objects,
			Created: r.Created, Started: r.Started, Ended: r.Ended, ElapsedS: r.ElapsedS, PausedS: r.PausedS,
			Owner: r.Owner, CanceledBy: r.CanceledBy, Priority: r.Priority, OnFailure: r.OnFailure,
			Rollback: r.Rollback, RetryOf: r.RetryOf, Forgotten: true,
		},
		Key: r.Key, Digest: r.Digest, Destroys: true,
	}
}
