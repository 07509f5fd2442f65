package service

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"storaged/internal/catalog"
	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/store"
)

// A request may say that it will do if what it asks for is so already. Where that is
// so when it is asked for, the answer is what there is, and there is no job. Where
// another job is about to bring it about, the job of the request waits for the end of
// that like for every other, and looks then.

// needless answers a request that was refused for what there is, or is not.
func (s *Service) needless(ctx context.Context, q submission, w order, failure error) (contract.Started, error) {
	var taken *catalog.NameTakenError
	r, ok := w.operation.(operation.Repeatable)
	if ok && errors.As(failure, &taken) && r.Tolerates() == record.Exists {
		done, err := r.Done(operation.Known{Volume: taken.By.Volume})
		if !done {
			return contract.Started{}, cmp.Or(err, failure)
		}
		v, err := s.Volume(ctx, taken.By.Pool, taken.By.Name)
		return contract.Started{Unchanged: &contract.Unchanged{Volume: &v}}, err
	}
	if m, ok := q.request.(operation.Remover); ok && m.MayBeGone() && record.CodeOf(failure) == record.NotFound {
		if err := s.surelyGone(ctx, q, failure); err != nil {
			return contract.Started{}, err
		}
		return contract.Started{Unchanged: &contract.Unchanged{}}, nil
	}
	return contract.Started{}, failure
}

// surelyGone looks whether the pool has a volume that the catalog does not know. Of a
// pool that cannot be looked at, nothing is gone.
func (s *Service) surelyGone(ctx context.Context, q submission, failure error) error {
	p, err := s.Pool(ctx, q.pool)
	if q.volume == "" || record.CodeOf(err) == record.NotFound {
		return nil
	}
	if err != nil {
		return err
	}
	_, f, err := s.lookAt(ctx, p.Name, q.volume)
	if err == nil && f.Report != nil {
		return failure
	}
	return err
}

// behind notes who is making the volume that a job is to make, and waits for: of what
// that is reserved, no more is needed for the same again.
func (s *Service) behind(w *order) {
	pool, volume := operation.ResultOf(w.operation)
	for _, j := range s.jobs.Live() {
		if volume != "" && slices.Contains(j.Objects, record.Object{Pool: pool, Volume: volume, Mode: record.ModeWrite}) {
			w.has = max(w.has, j.Reserved)
		}
	}
}

// free refuses a name that is taken. One that a job is giving to a volume just now is
// not, where the job that is asked for waits for that.
func free(tx *store.Tx, p *store.Pool, name string, o operation.Operation) error {
	err := catalog.FreeName(tx, p, name)
	var taken *catalog.NameTakenError
	if record.CodeOf(err) == record.Exists && !errors.As(err, &taken) && operation.Waits(o) {
		return nil
	}
	return err
}

// existing answers to the definition of a pool that is there already.
func (s *Service) existing(ctx context.Context, sub contract.Submit, r contract.PoolDefine, start bool, failure error) (record.Pool, contract.Started, error) {
	p, starting, err := s.starting(r.Name)
	if err != nil {
		return record.Pool{}, contract.Started{}, failure // it is another pool that is in the way
	}
	public := catalog.PublicPool(p)
	switch {
	case p.Type != r.Type || !p.Definition().Is(record.Definition{Target: r.Target, Source: r.Source}):
		err = record.Errorf(record.Exists, "pool %q exists and differs: it is %s at %s", p.Name, p.Type, p.Target.Path)
	case start && starting:
		st, err := s.startAfter(ctx, sub, r, p)
		return public, st, err
	case start && p.State != record.PoolActive:
		err = record.Errorf(record.Exists, "pool %q exists and is %s", p.Name, p.State).WithHint("%s", record.Do("pool.start", p.Name))
	}
	return public, contract.Started{Unchanged: &contract.Unchanged{Pool: &public}}, err
}

// starting gives a pool, and reports whether a job is about to start it.
func (s *Service) starting(pool string) (p *store.Pool, is bool, err error) {
	err = s.store.View(func(tx *store.Tx) error {
		if p, err = catalog.Pool(tx, pool); err != nil {
			return err
		}
		live, err := tx.LiveJobs()
		is = slices.ContainsFunc(live, func(j *store.Job) bool { return j.Kind == record.PoolStart && concerns(j.Job, pool) })
		return err
	})
	return p, is, err
}

// startAfter starts a pool that another job is about to start, unless that succeeds.
func (s *Service) startAfter(ctx context.Context, sub contract.Submit, r contract.PoolDefine, p *store.Pool) (contract.Started, error) {
	o, err := defining(p, false, true)
	if err != nil {
		return contract.Started{}, err
	}
	o.(*operation.PoolStart).ExistOK = true
	return s.submit(ctx, sub, order{operation: o, options: r.JobOptions})
}
