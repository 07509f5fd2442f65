package helper

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"storaged/internal/backends"
	"storaged/internal/ipc"
	"storaged/internal/operation"
	"storaged/internal/record"
)

// Settle makes the task of an operation.
func Settle(o *operation.Settle) (Task, error) {
	job, byHand := o.Job, true
	if dir, ok := ipc.JobDirFromEnv(); ok {
		job, byHand = dir.Job, false
	} else if err := needed(o, "job", job != ""); err != nil {
		return Task{}, err
	}
	if err := record.CheckJob(job); err != nil {
		return Task{}, record.Errorf(record.Invalid, "%s", err)
	}
	work := settlement{job: job, byHand: byHand, deletes: o.Deleted, keeps: o.Keep, resumable: o.Resumable}
	if o.Pools {
		return settlePools(o, work)
	}
	at, err := volume(o, "target", o.Volume)
	if err != nil {
		return Task{}, err
	}
	work.at = at
	t := Task{
		doing:   fmt.Sprintf("settle job %s on %q", job, at.path),
		done:    fmt.Sprintf("settled job %s on %q", job, at.path),
		undone:  "what was unfinished may be there still",
		writes:  at.path,
		changes: []pool{at.in()},
		settles: true,
		work:    work.work,
	}
	if o.Source.Path != "" {
		from, err := volume(o, "source", *o.Source)
		t.work = movedSettlement{work, from}.work
		t.changes = append(t.changes, from.in())
		return t, err
	}
	return t, nil
}

type settlement struct {
	at      place
	job     string
	byHand  bool
	deletes bool // the job to settle is a delete

	keeps     bool // an unfinished target gets the volume's name instead of being removed
	resumable bool // an unfinished target with a checkpoint stays as it is, for a retry
}

// errUndone says that the job had not come to its end and that nothing
// unfinished is left of it. The daemon gets it as the outcome canceled of the
// settling helper, which means that the job was undone.
var errUndone = errors.New("the job had not come to its end; nothing unfinished is left of it")

// begin is what settling anything begins with. Nothing cancels it.
func (w settlement) begin(r *run) error {
	if err := r.control.seal(); err != nil {
		return err
	}
	r.plan(single("settle"))
	r.next(0)
	return nil
}

func (w settlement) work(ctx context.Context, r *run) error {
	if err := w.begin(r); err != nil {
		return err
	}
	identity, err := r.records.load()
	if err != nil {
		return err
	}
	if kept, err := w.keep(ctx, r); kept {
		return err
	}
	identity, partial := bytes.CutPrefix(identity, []byte(unfinished))
	committed, err := w.at.backend.Settle(ctx, w.at.pool, w.at.name, w.job, identity)
	if err != nil {
		r.report.Rollback = string(record.RollbackFailed)
		return err
	}
	gone := w.describe(ctx, r)
	if committed && partial {
		r.report.Rollback = string(record.RollbackKept)
		return fmt.Errorf("%w but what was to be kept", errUndone)
	}
	if committed || w.byHand || gone && w.deletes {
		return nil
	}
	if r.report.Volume == nil { // else the job changed one in place, which nothing undoes
		r.report.Rollback = string(record.RollbackDone)
	}
	return errUndone
}

// keep keeps what is unfinished of a new volume from being removed, if that is
// wanted and there is anything to keep. Its error says that the job had not come
// to its end.
func (w settlement) keep(ctx context.Context, r *run) (kept bool, _ error) {
	if !w.keeps && !w.resumable {
		return false, nil
	}
	d, err := w.at.backend.Resume(ctx, w.at.pool, w.at.name, w.job, w.job)
	if err != nil {
		return false, nil // there is nothing, or it is what Settle has an error for
	}
	defer d.Close() // it was durable before, or is made so by its commit
	if w.keeps {
		kept = w.named(ctx, r, d)
	} else {
		kept = w.left(r, d)
	}
	if !kept {
		return false, nil
	}
	r.report.Rollback, r.report.Resumable = string(record.RollbackKept), !w.keeps
	return true, fmt.Errorf("%w but what was to be kept", errUndone)
}

// named gives what is unfinished the volume's name, marked as incomplete.
func (w settlement) named(ctx context.Context, r *run, d backends.Draft) bool {
	info, err := d.Info()
	if err != nil || info.Allocation == 0 {
		return false // nothing was written
	}
	r.keep = true
	named, _ := r.name(ctx, d, errUndone)
	if named {
		if err := r.describe(d); err != nil {
			r.warn("cannot describe the volume: %v", err)
		}
	}
	return named
}

// left reports whether a later job can go on with what is unfinished.
func (w settlement) left(r *run, d backends.Draft) bool {
	e, err := r.checkpoint()
	if err != nil || e == nil {
		return false
	}
	if why := e.fits(d.File()); why != "" {
		r.warn("nobody can go on with what is unfinished of %q: %s", w.at.path, why)
		return false
	}
	return true
}

// describe reports what has the name now, as far as it can be told, or that
// nothing has.
func (w settlement) describe(ctx context.Context, r *run) (gone bool) {
	v, err := r.open(ctx, w.at, backends.ReadShared)
	if errors.Is(err, backends.ErrNotFound) {
		return true
	}
	if err == nil {
		defer v.Close()
		err = r.describe(v)
	}
	if err != nil {
		r.warn("cannot describe the volume: %v", err)
	}
	return false
}

// movedSettlement settles a job that was to move a volume.
type movedSettlement struct {
	settlement
	from place
}

func (w movedSettlement) work(ctx context.Context, r *run) error {
	if err := w.begin(r); err != nil {
		return err
	}
	rec, err := loadMove(r.records)
	if err != nil {
		return err
	}
	committed, err := w.settle(ctx, rec)
	if committed {
		w.describe(ctx, r)
	}
	switch {
	case err != nil:
		r.report.Rollback = string(record.RollbackFailed)
		return err
	case committed || w.byHand:
		return nil
	}
	r.report.Rollback = string(record.RollbackDone)
	return errUndone
}

// settle completes a move whose target has its name, and undoes another.
func (w movedSettlement) settle(ctx context.Context, rec moveRecord) (committed bool, err error) {
	committed, err = w.at.backend.Settle(ctx, w.at.pool, w.at.name, w.job, rec.Target)
	if err != nil || !committed || len(rec.Source) == 0 {
		return committed, err
	}
	if err := w.from.backend.SettleTaken(ctx, w.from.pool, w.from.name, rec.Source); err != nil {
		return true, fmt.Errorf("%q is complete, but %q is still there too: %w", w.at.path, w.from.path, err)
	}
	return true, nil
}
