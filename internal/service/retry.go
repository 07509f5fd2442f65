package service

import (
	"context"
	"errors"
	"slices"

	"github.com/google/uuid"

	"storaged/internal/catalog"
	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/store"
)

// A job is for the objects that had the names when it was recorded. Whoever got
// a name since is refused, at a retry and when a job begins that has waited.

// RetryJob starts the work of an ended job again, as a new job.
func (s *Service) RetryJob(ctx context.Context, sub contract.Submit, job string, r contract.JobRetry) (contract.Started, error) {
	if again, err := s.repeated(sub); again != nil || err != nil {
		return deref(again), err
	}
	old, o, err := s.retried(ctx, job)
	if err != nil { // for what the same request did meanwhile, perhaps
		again, wrong := s.repeated(sub)
		if again == nil && wrong == nil {
			wrong = err
		}
		return deref(again), wrong
	}
	if err := sub.Caller.MayStart(ctx, o.Kind()); err != nil {
		return contract.Started{}, err
	}
	w := order{operation: o, also: func(tx *store.Tx) error { return again(tx, o, old) }}
	w.options = operation.JobOptions{Limit: old.Limit, Priority: old.Priority, Labels: old.Labels, OnFailure: old.OnFailure}
	if len(r.Limit) > 0 {
		if w.options.Limit, err = contract.Rate("limit", r.Limit); err != nil {
			return contract.Started{}, err
		}
	}
	w.operation.Bound().After = 0
	if old.Resumable != nil {
		w.operation.Bound().After, w.has = old.Number, old.Taken
	}
	return s.submitFitting(ctx, w, func(w order) (contract.Started, error) { return s.startAgain(ctx, sub, old, w) })
}

// startAgain starts the work of an ended job as a new one.
func (s *Service) startAgain(ctx context.Context, sub contract.Submit, old *store.Job, w order) (contract.Started, error) {
	r, err := s.jobRequest(sub, w)
	if err != nil {
		return contract.Started{}, err
	}
	r.RetryOf = &old.Number
	if old.Resumable != nil {
		r.From, r.RetryFrom = old.ID, old.Resumable
	}
	return s.launch(ctx, sub, w, r)
}

// retried gives a job that can be retried and its work, after a look whether
// others have put something else in the place of what it was for.
func (s *Service) retried(ctx context.Context, job string) (*store.Job, operation.Operation, error) {
	old, err := s.retryable(job)
	if err != nil {
		return nil, nil, err
	}
	o, err := catalog.OperationOf(old)
	if err != nil {
		return nil, nil, record.Errorf(record.Unsupported, "%v", err)
	}
	same := func(tx *store.Tx) error { return again(tx, o, old) }
	if err := s.store.View(same); err != nil {
		return nil, nil, err
	}
	if err := s.lookAgain(ctx, o); err != nil {
		return nil, nil, err
	}
	return old, o, s.store.View(same)
}

// again refuses to do the work of a job again that is not for the same objects any more,
// or that is done.
func again(tx *store.Tx, o operation.Operation, old *store.Job) error {
	if err := unretried(tx, &old.Job); err != nil {
		return err
	}
	return catalog.Original(tx, o, old)
}

// unretried refuses a job of which a retry, or a retry of that, is under way or has
// succeeded.
func unretried(tx *store.Tx, old *record.Job) error {
	retries, err := retriesSince(tx, old)
	if err != nil {
		return err
	}
	for _, j := range retries {
		for at := j; at != nil && at.RetryOf != nil; at = retries[*at.RetryOf] {
			if *at.RetryOf == old.Number && j.State == record.Succeeded {
				return record.Errorf(record.WrongState, "job %d was retried by job %d, which has succeeded", old.Number, j.Number)
			}
			if *at.RetryOf == old.Number && !j.State.Terminal() {
				return record.Errorf(record.WrongState, "job %d is retried already, by job %d", old.Number, j.Number).WithHint("%s", record.Do("job.wait", j.Number))
			}
		}
	}
	return nil
}

// retriesSince gives the retries, by number, that are younger than a job and on an object
// of it, as all are that do its work.
func retriesSince(tx *store.Tx, old *record.Job) (map[int64]*store.Job, error) {
	retries := map[int64]*store.Job{}
	err := tx.JobsBefore(0, func(h *store.JobHead, load func() (*store.Job, error)) (bool, error) {
		if h.Number <= old.Number {
			return false, nil
		}
		if h.Kind != old.Kind || !slices.ContainsFunc(h.Objects, func(o record.Object) bool { return slices.Contains(old.Objects, o) }) {
			return true, nil
		}
		j, err := load()
		if err == nil && j.RetryOf != nil {
			retries[j.Number] = j
		}
		return true, err
	})
	return retries, err
}

// lookAgain has what the work is on looked at.
func (s *Service) lookAgain(ctx context.Context, o operation.Operation) error {
	if _, all := catalog.TakesVolumes(o); all {
		return s.allKnown(ctx, o)
	}
	if !catalog.OnExisting(o) {
		return nil
	}
	v, err := s.storedOn(o)
	if err != nil {
		return err
	}
	return s.lookAfter(ctx, v)
}

// allKnown refuses volumes in the pool of the work that the catalog does not
// know: what came since the job was recorded.
func (s *Service) allKnown(ctx context.Context, o operation.Operation) error {
	ctx, cancel := context.WithTimeout(ctx, freshTimeout)
	defer cancel()
	p, err := s.Pool(ctx, o.On().Pool)
	if err != nil {
		return err
	}
	at, err := s.situated(p.Name)
	if err != nil {
		return err
	}
	at.PoolID = catalog.Lasting(at.Type, at.PoolID)
	report, began, err := s.jobs.Query(ctx, "pool "+uuid.NewString(), (&operation.PoolRefresh{OnPool: operation.OnPool{Volume: at}}).Task().Argv())
	var refusal *record.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return slowPool(p.Name)
	case errors.As(err, &refusal):
		return errors.Join(s.noteAbsence(&p, catalog.Finding{Began: began, Err: refusal}), refusal)
	case err != nil:
		return err
	}
	return s.store.View(func(tx *store.Tx) error { return catalog.AllKnown(tx, o, report.Items) })
}
