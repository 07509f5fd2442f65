package service

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"

	"storaged/internal/ipc"
	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/store"
)

// A helper tells apart that a pool cannot be looked at, of which nothing follows
// for its volumes, and that a volume is not in a pool that it has looked at. The
// catalogue follows both, whichever job or query found it.

// lacks reports whether a failure says that the pool at that path could not be
// looked at, or is another: no other failure of the code names a path.
func lacks(code record.Code, path string) bool { return code == record.WrongState && path != "" }

// absences lets the catalogue follow what the helper of a job did not find.
func (k *keeper) absences(tx *store.Tx, e end) error {
	if e.report == nil || e.job.Code() == record.Inconsistent {
		return nil
	}
	if err := k.absence(tx, e, e.report.Error); err != nil {
		return err
	}
	if f := e.report.Error; f != nil && !e.job.Undo && f.Code == string(record.NotFound) {
		if err := k.vanishedAt(tx, e, f.Path); err != nil {
			return err
		}
	}
	for _, it := range e.report.Items {
		if err := k.absence(tx, e, it.Error); err != nil {
			return err
		}
	}
	return k.vanishedOf(tx, e)
}

// vanishedOf takes the entries away of volumes that a job over many did not find.
// Between two of them others had their turn: what is newer than the job stays.
func (k *keeper) vanishedOf(tx *store.Tx, e end) error {
	gone := slices.DeleteFunc(slices.Clone(e.report.Items), func(it ipc.Item) bool {
		return it.Error == nil || it.Error.Code != string(record.NotFound) || it.Error.Path == ""
	})
	if len(gone) == 0 {
		return nil
	}
	busy, err := lockedNames(tx, e.Pool, e.job.Number)
	if err != nil {
		return err
	}
	s := scan{keeper: k, tx: tx, began: e.job, busy: busy}
	for _, it := range gone {
		v, err := tx.Volume(e.Pool, it.Name)
		if errors.Is(err, store.ErrNotFound) || err == nil && (v.Path != it.Error.Path || s.stale(v)) {
			continue
		}
		if err == nil {
			err = k.vanish(tx, v)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// absence marks the pools of a job that a failure says could not be looked at.
func (k *keeper) absence(tx *store.Tx, e end, f *ipc.Error) error {
	if f == nil || !lacks(record.Code(f.Code), f.Path) {
		return nil
	}
	for _, name := range []string{e.Pool, e.TargetPool} {
		p, err := tx.Pool(name)
		if errors.Is(err, store.ErrNotFound) || err == nil && p.Target.Path != f.Path {
			continue
		}
		if err != nil {
			return err
		}
		if err := k.unreachable(tx, p, f.Message); err != nil {
			return err
		}
	}
	return nil
}

// unreachable shows that a pool in use cannot be looked at.
func (k *keeper) unreachable(tx *store.Tx, p *store.Pool, why string) error {
	if p.State != record.PoolActive && p.State != record.PoolDegraded {
		return nil
	}
	k.move(p, record.PoolUnreachable, why)
	return k.putPool(tx, "pool.state", p)
}

// vanishedAt takes the entry away of a volume of the job's that was not at its
// path. The job has the volume, so that nobody has made it anew since.
func (k *keeper) vanishedAt(tx *store.Tx, e end, path string) error {
	if e.Volume == "" || path == "" || path != e.Path {
		return nil
	}
	v, err := tx.Volume(e.Pool, e.Volume)
	if errors.Is(err, store.ErrNotFound) || err == nil && v.State == record.VolumeBuilding {
		return nil
	}
	if err != nil {
		return err
	}
	return k.vanish(tx, v)
}

// vanish takes the entry of a volume away whose file others have removed.
func (k *keeper) vanish(tx *store.Tx, v *store.Volume) error {
	if err := k.dropVolume(tx, vanished, v); err != nil {
		return err
	}
	return k.provision(tx, v.Pool, -v.Capacity)
}

// replaced lets the catalogue follow a volume of the job's whose name was found
// to be another's. It gives the report without that volume, which the job did
// nothing to.
func (k *keeper) replaced(tx *store.Tx, e end) (*ipc.Report, error) {
	if !e.own() || e.report.Volume == nil || !swapped(e.report.Error, e.Path) {
		return e.report, nil
	}
	rest, it := *e.report, *e.report.Volume
	rest.Volume = nil
	v, err := tx.Volume(e.Pool, e.Volume)
	if err != nil || it.Name != v.Name || it.Ignored != "" {
		return &rest, ignoreNotFound(err)
	}
	busy, err := lockedNames(tx, e.Pool, e.job.Number)
	if err != nil {
		return &rest, err
	}
	now, before := k.now(), v.Capacity
	s := scan{keeper: k, tx: tx, pool: &store.Pool{Pool: record.Pool{Name: e.Pool}}, began: &store.Job{Job: record.Job{Started: &now}}, busy: busy}
	if err := s.apply(v, it); err != nil {
		return &rest, err
	}
	return &rest, k.provision(tx, e.Pool, v.Capacity-before)
}

// swapped reports whether a failure says that the volume at that path is not the
// one that was meant: no other failure of the code names a path.
func swapped(f *ipc.Error, path string) bool {
	return f != nil && f.Code == string(record.Changed) && f.Path == path && path != ""
}

// takenError is the refusal of a name that the catalogue has.
type takenError struct {
	refusal *record.Error
	by      *store.Volume
}

func (e *takenError) Error() string { return e.refusal.Error() }
func (e *takenError) Unwrap() error { return e.refusal }

// planned runs plan on a consistent view of the catalogue. A name that is taken
// is looked for in its pool first: others may have removed the file.
func (s *Service) planned(ctx context.Context, plan func(*store.Tx) (work, error)) (w work, err error) {
	read := func(tx *store.Tx) (err error) {
		w, err = plan(tx)
		return err
	}
	err = s.store.View(read)
	if record.CodeOf(err) == record.HasChildren { // those may be gone too
		if _, serr := s.seekChildren(ctx); serr == nil {
			return w, s.store.View(read)
		}
	}
	var taken *takenError
	if !errors.As(err, &taken) {
		return w, err
	}
	if err := s.lookAfter(ctx, taken.by); err != nil {
		return w, err
	}
	return w, s.store.View(read)
}

// lookAfter has a query helper look at one volume, and lets the catalogue follow
// what it finds.
func (s *Service) lookAfter(ctx context.Context, v *store.Volume) error {
	ctx, cancel := context.WithTimeout(ctx, freshTimeout)
	defer cancel()
	var p *store.Pool
	err := s.store.View(func(tx *store.Tx) (err error) {
		p, err = activePool(tx, v.Pool)
		return err
	})
	if err != nil {
		return err
	}
	w := volumeWork(p, "", v.Name)
	w.PoolID = p.Identity
	// Under a key of its own: what was so a moment ago is no answer.
	report, began, err := s.jobs.Query(ctx, "volume "+uuid.NewString(), (&operation.Look{Volume: w.volume()}).Task().Argv())
	var refusal *record.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return slowPool(p.Name)
	case err != nil && !errors.As(err, &refusal):
		return err
	case refusal != nil && refusal.Code == record.NotFound && refusal.Path == w.Path:
		refusal = nil
	}
	if refusal != nil {
		return errors.Join(s.noteAbsence(&p.Pool, finding{began: began, err: refusal}), refusal)
	}
	return s.store.Update(func(tx *store.Tx) error { return s.keeper.looked(tx, v, finding{report: report, began: began}) })
}

// noteAbsence shows a pool as unreachable if a query says that it is.
func (s *Service) noteAbsence(asked *record.Pool, f finding) error {
	if !lacks(f.err.Code, f.err.Path) {
		return nil
	}
	return s.store.Update(func(tx *store.Tx) error {
		p, err := tx.Pool(asked.Name)
		if err != nil || p.UUID != asked.UUID || p.Target.Path != f.err.Path || s.keeper.readSince(p, f.began) {
			return ignoreNotFound(err)
		}
		return s.keeper.unreachable(tx, p, f.err.Message)
	})
}

// readSince reports whether a pool was read after then.
func (k *keeper) readSince(p *store.Pool, then time.Time) bool {
	return p.Observed != nil && k.since(*p.Observed, then)
}

func ignoreNotFound(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

// looked applies what was found of one volume; no report is that there is none.
// As with a scan, what a job has, or has changed since, stays.
func (k *keeper) looked(tx *store.Tx, asked *store.Volume, f finding) error {
	p, err := tx.Pool(asked.Pool)
	if err != nil {
		return ignoreNotFound(err)
	}
	v, err := tx.Volume(asked.Pool, asked.Name)
	if err != nil {
		return ignoreNotFound(err)
	}
	busy, err := lockedNames(tx, p.Name, 0)
	if err != nil {
		return err
	}
	s := scan{keeper: k, tx: tx, pool: p, began: &store.Job{Job: record.Job{Started: &f.began}}, busy: busy}
	switch {
	case s.stale(v):
		return nil
	case f.report == nil:
		return k.vanish(tx, v)
	case f.report.Volume == nil || f.report.Volume.Name != v.Name || f.report.Volume.Ignored != "" && !linked(p.Type, v, *f.report.Volume):
		return nil
	}
	return s.apply(v, *f.report.Volume)
}

// slowPool is a pool that does not answer.
func slowPool(name string) error {
	return record.Errorf(record.TimedOut, "pool %q could not be read within %v", name, freshTimeout).
		WithHint("without fresh, the answer is what was read last")
}

// current refuses what is asked for as it is now where a pool could not be read:
// one that is named, and of all those in use.
func current(tx *store.Tx, names []string) error {
	pools, err := poolsOf(tx, names)
	if err != nil {
		return err
	}
	for _, p := range pools {
		if len(names) == 0 && p.State != record.PoolUnreachable {
			continue
		}
		if _, err := activePool(tx, p.Name); err != nil {
			return err
		}
	}
	return nil
}
