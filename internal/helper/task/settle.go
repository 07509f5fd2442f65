package task

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"storaged/internal/backends"
	"storaged/internal/helper"
	"storaged/internal/ipc"
	"storaged/internal/operation"
	"storaged/internal/record"
)

// Settle makes the task of an operation.
func Settle(o *operation.Settle) (helper.Task, error) {
	work, err := settlementOf(o)
	if err != nil {
		return helper.Task{}, err
	}
	if o.Pools {
		return settlePools(o, work)
	}
	at, err := volume(o, "target", o.Volume)
	if err != nil {
		return helper.Task{}, err
	}
	work.at = at
	if o.Snapshot != "" {
		if err := record.CheckSnapshot(at.Name, o.Snapshot); err != nil {
			return helper.Task{}, record.Errorf(record.Invalid, "%s", err)
		}
		work.at, work.of = at.Pool.At(record.SnapshotFile(at.Name, o.Snapshot)), &at
	}
	at.Pool.Changes = true
	t := helper.Task{
		Doing:   fmt.Sprintf("settle job %s on %q", work.job, at.Path),
		Done:    fmt.Sprintf("settled job %s on %q", work.job, at.Path),
		Undone:  "what was unfinished may be there still",
		Writes:  at.Path,
		Opens:   []helper.Opening{at.Pool},
		Settles: true,
		Work:    work.work,
	}
	if o.Source.Path != "" {
		from, err := volume(o, "source", *o.Source)
		t.Work = movedSettlement{work, from}.work
		t.Opens = append(t.Opens, from.Pool)
		from.Pool.Changes = true
		return t, err
	}
	return t, nil
}

// settlementOf is what is to be settled, but for where. By hand the job is a flag's.
func settlementOf(o *operation.Settle) (settlement, error) {
	job, byHand := o.Job, true
	if dir, ok := ipc.JobDirFromEnv(); ok {
		job, byHand = dir.Job, false
	} else if err := needed(o, "job", job != ""); err != nil {
		return settlement{}, err
	}
	if err := record.CheckJob(job); err != nil {
		return settlement{}, record.Errorf(record.Invalid, "%s", err)
	}
	return settlement{
		job: job, byHand: byHand, deletes: o.Deleted, keyed: o.Keyed, keeps: o.Keep, resumable: o.Resumable, format: o.Format,
		with: o.With, above: formatsOf(o.Above),
	}, nil
}

type settlement struct {
	at      helper.Location
	job     string
	byHand  bool
	deletes bool // the job to settle is a delete
	keyed   bool // and this one a rekey

	of     *helper.Location  // the volume that at is a snapshot of; nil: it is none
	format string            // of an image, whose header tells its capacity
	with   []string          // files of snapshots that were to go with the volume
	above  map[string]string // by their files, formats of what stood on a snapshot that was to be deleted

	keeps     bool // an unfinished target gets the volume's name instead of being removed
	resumable bool // an unfinished target with a checkpoint stays as it is, for a retry
}

// begin is what settling anything begins with.
func (w settlement) begin(r *helper.Run) {
	r.Plan(helper.Single("settle"))
	r.Next(0)
}

func (w settlement) work(ctx context.Context, r *helper.Run) error {
	w.begin(r)
	identity, err := r.Records.Load()
	if err != nil {
		return err
	}
	switch {
	case w.keyed:
		return w.rekeyed(ctx, r, string(identity))
	case len(w.with) > 0:
		return w.snapshotsToo(ctx, r, identity)
	}
	if kept, err := w.keep(ctx, r); kept {
		return err
	}
	identity, partial := bytes.CutPrefix(identity, []byte(helper.Unfinished))
	committed, err := w.settled(ctx, identity)
	if err != nil {
		return err
	}
	gone := w.describe(ctx, r)
	if w.of != nil {
		r.Report.Snapshot, r.Report.Volume = r.Report.Volume, nil
		settlement{at: *w.of, format: w.format}.describe(ctx, r)
		w.describeAbove(ctx, r)
	}
	if committed && partial {
		r.Report.Rollback = string(record.RollbackKept)
		return helper.ErrKept
	}
	if committed || w.byHand || gone && w.deletes {
		return nil
	}
	if r.Report.Volume == nil { // else the job changed one in place, which nothing undoes
		r.Report.Rollback = string(record.RollbackDone)
	}
	return helper.ErrUndone
}

// rekeyed settles a job that was to have another secret open the volume. What opened it
// before may do so still in any case.
func (w settlement) rekeyed(ctx context.Context, r *helper.Run, secret string) error {
	w.describe(ctx, r)
	if secret == "" {
		return helper.ErrUndone
	}
	r.Warn("secret %q opens %q; what opened it before may do so still", secret, w.at.Path)
	return nil
}

// snapshotsToo settles a job that was to delete a volume with its snapshots, by the files
// that those were: once the volume is gone, so are they.
func (w settlement) snapshotsToo(ctx context.Context, r *helper.Run, saved []byte) error {
	files := map[string][]byte{}
	if len(saved) > 0 {
		if err := json.Unmarshal(saved, &files); err != nil {
			return fmt.Errorf("cannot read which snapshots are to go with %q: %w", w.at.Path, err)
		}
	}
	if gone := w.describe(ctx, r); !gone || len(files) == 0 {
		return helper.ErrUndone
	}
	taker, err := w.at.Taker()
	if err != nil {
		return err
	}
	for _, name := range w.with {
		if err := taker.SettleTaken(ctx, w.at.Pool.Pool, name, files[name]); err != nil {
			return fmt.Errorf("the volume is deleted, and its snapshot %q is left: %w", name, err)
		}
	}
	return nil
}

// describeAbove reports on what each stands that stood on a snapshot.
func (w settlement) describeAbove(ctx context.Context, r *helper.Run) {
	for name, format := range w.above {
		at := w.at.Pool.At(name)
		v, err := r.Open(ctx, at, backends.ReadShared)
		if err == nil {
			var is ipc.Item
			if is, err = described(v, format); err == nil {
				r.Report.Items = append(r.Report.Items, is)
			}
			v.Close() // nothing was written
		}
		if err != nil {
			r.Warn("cannot tell what %q stands on: %v", at.Path, err)
		}
	}
}

// settled reports whether the job had committed the volume of that identity, and
// removes what is unfinished.
func (w settlement) settled(ctx context.Context, identity []byte) (bool, error) {
	creator, err := w.at.Creator()
	if err != nil {
		return false, err
	}
	committed, err := creator.Settle(ctx, w.at.Pool.Pool, w.at.Name, w.job, identity)
	if err != nil || committed || w.of == nil {
		return committed, err
	}
	// Else it may have become one that stands on its snapshot.
	committed, err = creator.Settle(ctx, w.of.Pool.Pool, w.of.Name, w.job, identity)
	if k, ok := w.of.Pool.Backend.(backends.Replacing); ok && err == nil && !committed {
		err = k.SettleReplaced(ctx, w.of.Pool.Pool, w.of.Name, w.at.Name)
	}
	return committed, err
}

// keep keeps what is unfinished of a new volume from being removed, if that is
// wanted and there is anything to keep. Its error says that the job had not come
// to its end.
func (w settlement) keep(ctx context.Context, r *helper.Run) (kept bool, _ error) {
	if !w.keeps && !w.resumable {
		return false, nil
	}
	creator, err := w.at.Creator()
	if err != nil {
		return false, nil // it is what Settle has an error for
	}
	d, err := creator.Resume(ctx, w.at.Pool.Pool, w.at.Name, w.job, w.job)
	if err != nil {
		return false, nil // there is nothing, or it is what Settle has an error for
	}
	defer d.Close() // it was durable before, or is made so by its commit
	if w.keeps {
		kept = w.named(ctx, r, d)
	} else {
		kept = w.resumableDraft(r, d)
	}
	if !kept {
		return false, nil
	}
	r.Report.Rollback, r.Report.Resumable = string(record.RollbackKept), !w.keeps
	return true, helper.ErrKept
}

// named gives what is unfinished the volume's name, marked as incomplete.
func (w settlement) named(ctx context.Context, r *helper.Run, d backends.Draft) bool {
	info, err := d.Info()
	if err != nil || info.Allocation == 0 {
		return false // nothing was written
	}
	r.Keep = true
	named, _ := r.Name(ctx, d, helper.ErrUndone)
	if named {
		if err := r.Describe(d); err != nil {
			r.Warn("cannot describe the volume: %v", err)
		}
	}
	return named
}

// resumableDraft reports whether a later job can go on with what is unfinished.
func (w settlement) resumableDraft(r *helper.Run, d backends.Draft) bool {
	e, err := r.Checkpoint()
	if err != nil || e == nil {
		return false
	}
	if why := e.FitsDraft(d.Content()); why != "" {
		r.Warn("nobody can go on with what is unfinished of %q: %s", w.at.Path, why)
		return false
	}
	return true
}

// describe reports what has the name now, as far as it can be told, or that
// nothing has.
func (w settlement) describe(ctx context.Context, r *helper.Run) (gone bool) {
	v, err := r.Open(ctx, w.at, backends.ReadShared)
	if errors.Is(err, backends.ErrNotFound) {
		return true
	}
	if err == nil {
		defer v.Close()
		if record.IsImage(w.format) {
			_, err = reread(r, v, w.format)
		}
		err = cmp.Or(err, r.Describe(v))
	}
	if err != nil {
		r.Warn("cannot describe the volume: %v", err)
	}
	return false
}

// movedSettlement settles a job that was to move a volume.
type movedSettlement struct {
	settlement
	from helper.Location
}

func (w movedSettlement) work(ctx context.Context, r *helper.Run) error {
	w.begin(r)
	rec, err := loadMove(r.Records)
	if err != nil {
		return err
	}
	committed, err := w.settle(ctx, rec)
	if committed {
		w.describe(ctx, r)
	}
	switch {
	case err != nil:
		return err
	case committed || w.byHand:
		return nil
	}
	r.Report.Rollback = string(record.RollbackDone)
	return helper.ErrUndone
}

// settle completes a move whose target has its name, and undoes another.
func (w movedSettlement) settle(ctx context.Context, rec moveRecord) (committed bool, err error) {
	committed, err = w.settled(ctx, rec.Target)
	if err != nil || !committed || len(rec.Source) == 0 {
		return committed, err
	}
	taker, err := w.from.Taker()
	if err == nil {
		err = taker.SettleTaken(ctx, w.from.Pool.Pool, w.from.Name, rec.Source)
	}
	if err != nil {
		return true, fmt.Errorf("%q is complete, but %q is still there too: %w", w.at.Path, w.from.Path, err)
	}
	return true, nil
}
