package supervisor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"storaged/internal/crash"
	"storaged/internal/record"
	"storaged/internal/store"
)

// Submit records a job and puts it in the queue. When it returns without an
// error, the job, its number and its key are durable, whatever ctx says
// meanwhile. A request under a key that is known gives the job of then. A
// refusal is a *record.Error: busy (with holders, where the request does not
// wait for locks), queue_full, key_reused, draining, recovering,
// state_unwritable.
func (s *Supervisor) Submit(ctx context.Context, r Request) (record.Job, error) {
	if err := ctx.Err(); err != nil {
		return record.Job{}, err
	}
	if known, err := s.known(r); known != nil || err != nil {
		return s.again(r, known), err
	}
	if err := s.enter(); err != nil {
		return record.Job{}, err
	}
	defer s.jobs.Done()
	if err := s.store.Room(); err != nil {
		return record.Job{}, unwritable(err)
	}
	if limit := s.schedule.Limits().Queued; limit > 0 && s.schedule.Waiting() >= limit {
		return record.Job{}, record.Errorf(record.QueueFull, "%d jobs are waiting already", limit)
	}
	rec, err := s.newRecord(r)
	if err != nil {
		return record.Job{}, err
	}
	j := newJob(s, rec, (*job).wait)
	if err := j.takeData(r.Data); err != nil {
		return record.Job{}, err
	}
	if r.LockWait != nil && *r.LockWait == 0 {
		if blockers := j.entry.Try(); blockers != nil {
			j.dropData()
			return record.Job{}, BusyError(rec.Subject(), blockers)
		}
	}
	if known, err := s.create(j, r); known != nil || err != nil {
		j.entry.Leave()
		j.dropData()
		return s.again(r, known), err
	}
	j.publish()
	s.enlist(j) // before it is announced: who then asks finds it
	j.announce("job.created")
	j.entry.Enter(j.rec.Number, false)
	v := j.view()
	s.jobs.Go(j.live)
	return v, nil
}

// newRecord makes the record of a request.
func (s *Supervisor) newRecord(r Request) (*store.Job, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("cannot make a job id: %w", err)
	}
	now := time.Now().UTC()
	rec := &store.Job{
		Job: record.Job{
			ID: id.String(), Kind: r.Kind, Class: r.Class, State: record.Queued, Objects: r.Objects,
			Created: now, Owner: r.Owner, Limit: r.Limit, Reserved: r.Reserved, Priority: r.Priority, Labels: r.Labels, Warnings: r.Warnings,
			OnFailure: r.OnFailure, Rollback: record.RollbackNone, RetryOf: r.RetryOf, RetryFrom: r.RetryFrom,
		},
		Argv: r.Argv, UndoArgv: r.UndoArgv, Secrets: r.Secrets, Params: r.Params, Moves: r.Moves, Key: r.Key, Digest: r.Digest,
		Destroys: r.Destroys, Data: r.Data != nil, Resume: r.Resume, From: r.From, Same: r.Same,
	}
	if rec.Priority == "" {
		rec.Priority = record.NormalPriority
	}
	if rec.OnFailure == "" {
		rec.OnFailure = record.RollbackOnFailure
	}
	rec.Deadline = s.deadline(r, now)
	return rec, nil
}

// deadline is the end of the waiting for locks: nil is never. A request that
// does not wait at all was granted its locks already, and waits for a slot
// only, as long as its class does.
func (s *Supervisor) deadline(r Request, now time.Time) *time.Time {
	wait := time.Duration(-1)
	if r.Class == record.Normal {
		wait = s.times.LockWait
	}
	if r.LockWait != nil && *r.LockWait != 0 {
		wait = *r.LockWait
	}
	if wait < 0 {
		return nil
	}
	at := now.Add(wait)
	return &at
}

// create makes the job durable, unless its key is known meanwhile.
func (s *Supervisor) create(j *job, r Request) (known *store.Job, err error) {
	var rec store.Job
	err = s.store.Update(func(tx *store.Tx) error {
		rec = j.rec
		if known, _, err = tx.Requested(r.Owner.UID, r.Key, r.Digest); err != nil || known != nil {
			return err
		}
		if rec.Number, err = tx.NextNumber(); err != nil {
			return err
		}
		if r.Also != nil {
			if err := r.Also(tx); err != nil {
				return err
			}
		}
		return tx.PutJob(&rec)
	})
	if err != nil || known != nil {
		return known, unwritable(err)
	}
	j.rec = rec
	crash.At(crash.Submitted)
	return nil, nil
}

// known looks the request's key up.
func (s *Supervisor) known(r Request) (known *store.Job, err error) {
	if r.Key == "" {
		return nil, nil
	}
	err = s.store.View(func(tx *store.Tx) error {
		known, _, err = tx.Requested(r.Owner.UID, r.Key, r.Digest)
		return err
	})
	return known, err
}

// Repeated gives the job that Submit would give for a request that came before,
// nil for one that did not; one under the key of another is refused.
func (s *Supervisor) Repeated(r Request) (*record.Job, error) {
	known, err := s.known(r)
	if known == nil || err != nil {
		return nil, err
	}
	return new(s.knownJob(known)), nil
}

// again gives the job that was asked for again, and says so.
func (s *Supervisor) again(r Request, known *store.Job) record.Job {
	if known != nil && r.Known != nil {
		r.Known()
	}
	return s.knownJob(known)
}

// knownJob gives the job as it is now.
func (s *Supervisor) knownJob(known *store.Job) record.Job {
	if known == nil {
		return record.Job{}
	}
	if j := s.find(known.ID); j != nil {
		return j.view()
	}
	return withLists(known.Job)
}

func unwritable(err error) error {
	if errors.Is(err, store.ErrUnwritable) {
		return record.Errorf(record.StateUnwritable, "the job cannot be recorded: %v", err)
	}
	return err
}

// Blockers says who would be in the way of a request now. It changes nothing.
func (s *Supervisor) Blockers(r Request) []record.Blocker {
	return s.schedule.Probe(r.Class, r.Objects)
}
