package service

import (
	"context"
	"errors"

	"github.com/google/uuid"

	"storaged/internal/ipc"
	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/store"
)

// A job is for the objects that had the names when it was recorded. Whoever got
// a name since is refused, at a retry and when a job begins that has waited.

// RetryJob starts the work of an ended job again, as a new job.
func (s *Service) RetryJob(ctx context.Context, sub Submit, job string) (Started, error) {
	if again, err := s.repeated(sub); again != nil || err != nil {
		return deref(again), err
	}
	old, w, err := s.retried(ctx, job)
	if err != nil {
		return Started{}, err
	}
	w.After = 0
	if old.Resumable != nil {
		w.After, w.has = old.Number, old.Taken
	}
	w.Also = func(tx *store.Tx) error { return w.original(tx, old) }
	return s.submitFitting(ctx, w, func(w work) (Started, error) { return s.startAgain(ctx, sub, old, w) })
}

// startAgain starts the work of an ended job as a new one.
func (s *Service) startAgain(ctx context.Context, sub Submit, old *store.Job, w work) (Started, error) {
	r, err := s.jobRequest(sub, w, JobOptions{Limit: old.Limit, Priority: old.Priority, Labels: old.Labels, OnFailure: old.OnFailure})
	if err != nil {
		return Started{}, err
	}
	r.RetryOf = &old.Number
	if old.Resumable != nil {
		r.From, r.RetryFrom = old.ID, old.Resumable
	}
	return s.start(ctx, sub, w, r)
}

// retried gives a job that can be retried and its work, after a look whether
// others have put something else in the place of what it was for.
func (s *Service) retried(ctx context.Context, job string) (*store.Job, work, error) {
	old, err := s.retryable(job)
	if err != nil {
		return nil, work{}, err
	}
	w, err := workOf(old)
	if err != nil {
		return nil, work{}, record.Errorf(record.Unsupported, "%v", err)
	}
	same := func(tx *store.Tx) error { return w.original(tx, old) }
	if err := s.store.View(same); err != nil {
		return nil, work{}, err
	}
	if err := s.lookAgain(ctx, w); err != nil {
		return nil, work{}, err
	}
	return old, w, s.store.View(same)
}

// lookAgain has what the work is on looked at.
func (s *Service) lookAgain(ctx context.Context, w work) error {
	if w.onAllVolumes() {
		return s.noStrangers(ctx, w)
	}
	if !w.onExisting() {
		return nil
	}
	var v *store.Volume
	err := s.store.View(func(tx *store.Tx) (err error) {
		v, err = findVolume(tx, w.Pool, w.Volume)
		return err
	})
	if err != nil {
		return err
	}
	return s.lookAfter(ctx, v)
}

// noStrangers refuses volumes in the pool of the work that the catalogue does not
// know: what came since the job was recorded.
func (s *Service) noStrangers(ctx context.Context, w work) error {
	ctx, cancel := context.WithTimeout(ctx, freshTimeout)
	defer cancel()
	p, err := s.Pool(ctx, w.Pool)
	if err == nil {
		err = s.store.View(w.locate)
	}
	if err != nil {
		return err
	}
	w.PoolID = lasting(w.Type, w.PoolID)
	report, began, err := s.jobs.Query(ctx, "pool "+uuid.NewString(), (&operation.PoolRefresh{OnPool: operation.OnPool{Volume: w.volume()}}).Task().Argv())
	var refusal *record.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return slowPool(w.Pool)
	case errors.As(err, &refusal):
		return errors.Join(s.noteAbsence(&p, finding{began: began, err: refusal}), refusal)
	case err != nil:
		return err
	}
	return s.store.View(func(tx *store.Tx) error { return w.known(tx, report.Items) })
}

// known refuses the first of the items that is a volume of another file than the
// catalogue has under its name.
func (w work) known(tx *store.Tx, items []ipc.Item) error {
	for _, it := range items {
		if ok, err := record.MatchName(w.Only, it.Name); it.Ignored != "" || !ok || err != nil {
			continue // what is ignored makes a delete refuse anyhow
		}
		v, err := tx.Volume(w.Pool, it.Name)
		switch {
		case errors.Is(err, store.ErrNotFound), err == nil && !sameVolume(w.Type, v.Identity, it.Identity):
			return another(quoted(w.Pool, it.Name))
		case err != nil:
			return err
		}
	}
	return nil
}

// onAllVolumes reports whether the work takes the volumes of a pool away.
func (w work) onAllVolumes() bool {
	return w.Kind == record.PoolDelete && w.WithVolumes || w.Kind == record.PoolEvacuate
}

// onExisting reports whether the work is on a volume that was there before.
func (w work) onExisting() bool { return w.Volume != "" && w.Kind != record.VolumeCreate }

// destructive reports whether the work takes content away, or moves it: on a
// command line somebody is asked before.
func (w work) destructive() bool {
	return w.operation().Destroys() || w.Kind == record.PoolEvacuate && !w.KeepSource
}

// original refuses work on what is not the object that the job was for.
func (w work) original(tx *store.Tx, j *store.Job) error {
	if err := w.placed(tx); err != nil {
		return err
	}
	switch {
	case w.onExisting():
		v, err := tx.Volume(w.Pool, w.Volume)
		if err != nil {
			return ignoreNotFound(err) // which the kind of job refuses
		}
		return older(v, j)
	case w.onAllVolumes() && (w.Kind == record.PoolDelete || j.State.Terminal()): // of an evacuation at work, others may visit the pool
		vols, err := tx.Volumes(w.Pool)
		if err != nil {
			return err
		}
		for _, v := range vols {
			if ok, err := record.MatchName(w.Only, v.Name); !ok || err != nil {
				continue
			}
			if err := older(v, j); err != nil {
				return err
			}
		}
	}
	return nil
}

// older refuses a volume that came to its name after the job was recorded.
func older(v *store.Volume, j *store.Job) error {
	if v.Arrived < j.Number && (v.CreatedBy == nil || *v.CreatedBy <= j.Number) {
		return nil
	}
	return another(quoted(v.Pool, v.Name))
}

// another is the refusal of an object that the job was not for.
func another(volume string) error {
	return record.Errorf(record.Changed, "volume %s is not one that the job was for: it came to its name later", volume).
		WithHint("start the work anew instead of retrying it")
}

// placed refuses work whose pool is another by now, or lies elsewhere: what is
// at the path that the helper is given may be somebody else's.
func (w work) placed(tx *store.Tx) error {
	type pool struct{ name, uuid, dir string }
	pools := []pool{{w.Pool, w.PoolUUID, w.Path}}
	if w.Volume != "" {
		pools[0].dir = targetOf(w.Type, w.Path)
	}
	switch {
	case w.TargetName != "":
		pools = append(pools, pool{w.TargetPool, w.TargetUUID, targetOf(w.TargetType, w.TargetPath)})
	case w.TargetPool != "":
		pools = append(pools, pool{w.TargetPool, w.TargetUUID, w.TargetPath})
	}
	for _, at := range pools {
		p, err := findPool(tx, at.name)
		if err != nil {
			return err
		}
		var refusal *record.Error
		switch {
		case at.uuid != "" && p.UUID != at.uuid:
			refusal = record.Errorf(record.Changed, "pool %q is not the one that the job was for: it was defined anew since", at.name)
		case p.Target.Path != at.dir:
			refusal = record.Errorf(record.Changed, "pool %q is at %q now, no longer at %q", at.name, p.Target.Path, at.dir)
		default:
			continue
		}
		return refusal.WithHint("start the work anew instead of retrying it")
	}
	return nil
}
