package task

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"storaged/internal/backends"
	"storaged/internal/diskio"
	"storaged/internal/helper"
	"storaged/internal/ipc"
	"storaged/internal/operation"
	"storaged/internal/record"
)

// Evacuate makes the task of an operation.
func Evacuate(o *operation.Evacuate) (helper.Task, error) {
	to, err := poolOf(o, "to", operation.Volume(o.Target))
	if err != nil {
		return helper.Task{}, err
	}
	from, err := poolOf(o, "target", o.Volume)
	if err != nil {
		return helper.Task{}, err
	}
	if _, err := record.MatchName(o.Only, ""); err != nil {
		return helper.Task{}, record.Errorf(record.Invalid, "--only: %s", err)
	}
	t, err := poolTask(o, o.Volume, said{"evacuate", "evacuated", true}, func(ctx context.Context, r *helper.Run, _ *helper.Pool) error {
		w := evacuation{
			walk: walk{Pool: from, run: r}, to: to, only: o.Only, stays: o.Stays,
			images: formatsOf(o.Images), among: o.Among, skipBusy: o.SkipBusy, keep: o.KeepSource, stop: o.OnError == "stop",
		}
		return w.work(ctx)
	})
	t.Undone, t.Seeks, t.Labels = "what is moved already stays moved", true, true
	t.Opens = []helper.Opening{from, to}
	from.Changes, to.Changes = true, true
	t.ByHand = func(ctx context.Context) error {
		names, err := fixed(ctx, from, o.KeepSource)
		o.Stays = append(o.Stays, names...)
		return err
	}
	return t, err
}

// formatsOf reads FORMAT:NAME.
func formatsOf(images []string) map[string]string {
	formats := map[string]string{}
	for _, text := range images {
		format, name, _ := strings.Cut(text, ":")
		formats[name] = format
	}
	return formats
}

// evacuation moves the volumes of a pool to another.
type evacuation struct {
	walk
	to       *helper.Pool
	only     string
	stays    []string          // names of volumes that cannot be moved
	images   map[string]string // formats of those that are images, by name
	among    []string          // directories of what images may stand on
	skipBusy bool
	keep     bool  // the volumes, which are only copied
	stop     bool  // at the first failure
	bytes    int64 // of the volumes that were moved
	stuck    bool  // something unfinished could not be removed
}

func (w *evacuation) work(ctx context.Context) error {
	w.run.Many = true
	err := w.begin(ctx, "move", func(v backends.VolumeInfo) bool {
		ok, err := record.MatchName(w.only, v.Name)
		return ok && err == nil
	})
	if err != nil {
		return err
	}
	err = w.each(ctx, w.deal)
	if w.stuck {
		w.run.Report.Rollback = string(record.RollbackFailed)
	}
	if (err == nil || errors.Is(err, errStopped)) && w.failed > 0 {
		return w.partial(err)
	}
	return err
}

// errStopped ends an evacuation at the first failure.
var errStopped = errors.New("stopped at the first failure")

func (w *evacuation) partial(stopped error) error {
	then := ""
	if stopped != nil {
		then = "; " + stopped.Error()
	}
	return ipc.Errorf(record.Partial, "%d of %d volumes of pool %q could not be moved to %q%s", w.failed, len(w.volumes), w.Target, w.to.Target, then)
}

// deal moves one volume and notes durably what became of it.
func (w *evacuation) deal(ctx context.Context, v backends.VolumeInfo) error {
	w.run.Report.Rollback = string(record.RollbackNone)
	it, err := w.move(ctx, v)
	w.run.Report.Bytes = w.bytes
	w.stuck = w.stuck || w.run.Report.Rollback == string(record.RollbackFailed)
	before := w.failed
	it = w.judge(it, err)
	w.run.Report.Items = append(w.run.Report.Items, it)
	if nerr := w.run.Records.Add(it); nerr != nil {
		return nerr
	}
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case w.failed > before && w.stop:
		return errStopped
	case err != nil:
		w.run.Report.Rollback = string(record.RollbackNone)
	}
	return nil
}

// judge is judged, but for what is no failure here.
func (w *evacuation) judge(it ipc.Item, err error) ipc.Item {
	_, busy := errors.AsType[*backends.BusyError](err)
	if !errors.Is(err, context.Canceled) && !(busy && w.skipBusy) {
		return w.judged(it, "move", err)
	}
	it.State = skipped
	it.Error = helper.Fault(err, helper.Task{Doing: fmt.Sprintf("move %q", it.Path), Reads: it.Path})
	return it
}

// move moves or copies one volume. The item is of the target as soon as that
// is there.
func (w *evacuation) move(ctx context.Context, planned backends.VolumeInfo) (ipc.Item, error) {
	w.run.Report.Volume = nil
	it := helper.Item(planned)
	if slices.Contains(w.stays, planned.Name) {
		w.run.Pacer.Foresee(-planned.Size)
		return it, ipc.Errorf(record.HasChildren, "%q cannot be moved: others stand on it, it has snapshots, or it would not find what it stands on", planned.Path)
	}
	do := w.take
	if w.keep {
		do = w.clone
	}
	expected := planned.Size // what has to be taken back if the content is not dealt with
	mv := move{from: w.at(planned), to: &helper.Draft{Location: w.to.At(planned.Name)}, among: w.among}
	mv.to.As.Format = w.images[planned.Name]
	err := mv.inPlace(ctx)
	if err == nil {
		err = do(ctx, mv, &expected)
	}
	w.run.Pacer.Foresee(-expected)
	if v := w.run.Report.Volume; v != nil {
		like(v, it)
		it, w.run.Report.Volume = *v, nil
	}
	return it, err
}

// take moves a volume, which nobody else may have open.
func (w *evacuation) take(ctx context.Context, mv move, expected *int64) error {
	v, err := w.run.Take(ctx, mv.from)
	if err != nil {
		return err
	}
	defer v.Close() // what becomes of it is durable by then
	size, err := w.look(v, expected)
	if err == nil {
		err = mv.copying(mv.to.As.Format).admit(v)
	}
	if err != nil {
		return err
	}
	err = mv.rename(ctx, w.run, v, w.run.Seal)
	if err == nil {
		return w.dealt(ctx, size, expected)
	}
	if !errors.Is(err, backends.ErrElsewhere) {
		return err
	}
	source, err := v.Identity()
	if err != nil {
		return err
	}
	*expected = 0
	if err := mv.copy(ctx, w.run, v, source); err != nil {
		return err
	}
	w.bytes += size
	return mv.remove(ctx, w.run, v, source)
}

// clone copies a volume, which others may read.
func (w *evacuation) clone(ctx context.Context, mv move, expected *int64) error {
	v, err := w.run.Open(ctx, mv.from, backends.ReadShared)
	if err != nil {
		return err
	}
	defer v.Close()
	size, err := w.look(v, expected)
	if err == nil {
		c := mv.copying(mv.to.As.Format)
		c.both = true
		err = c.admit(v)
	}
	if err != nil {
		return err
	}
	*expected = 0
	if err := mv.copy(ctx, w.run, v, nil); err != nil {
		return err
	}
	w.bytes += size
	return nil
}

// look takes the volume for as long as it is now.
func (w *evacuation) look(v backends.Volume, expected *int64) (size int64, err error) {
	if size, err = sizeOf(v); err == nil {
		w.run.Pacer.Foresee(size - *expected)
		*expected = size
	}
	return size, err
}

// dealt counts what needed no copy.
func (w *evacuation) dealt(ctx context.Context, size int64, expected *int64) error {
	if _, err := w.run.Pacer.Admit(context.WithoutCancel(ctx), 0); err != nil {
		return err
	}
	w.run.Pacer.Finished(diskio.Moved{Done: size, Durable: size})
	w.bytes += size
	*expected = 0
	return nil
}

// evacuated settles a job that was to evacuate a pool.
type evacuated struct {
	settlement
	from, to *helper.Pool
}

// work gives the items that the job was done with, and the one between the
// two pools when it died.
func (w evacuated) work(ctx context.Context, r *helper.Run) error {
	w.begin(r)
	items, err := r.Records.Added()
	if err != nil {
		return err
	}
	r.Report.Items = items
	rec, err := loadMove(r.Records)
	if err != nil {
		return err
	}
	known := slices.ContainsFunc(items, func(it ipc.Item) bool { return it.Name == rec.Name })
	if known || rec.Name == "" {
		rec = moveRecord{Name: w.job} // only what is unfinished is to be removed
	}
	r.Report.Rollback = string(record.RollbackDone)
	return cmp.Or(w.last(ctx, r, rec), helper.ErrUndone)
}

// last finds out what became of the volume in flight.
func (w evacuated) last(ctx context.Context, r *helper.Run, rec moveRecord) error {
	one := movedSettlement{w.settlement, w.from.At(rec.Name)}
	one.at = w.to.At(rec.Name)
	committed, err := one.settle(ctx, rec)
	if !committed {
		return err
	}
	one.describe(ctx, r)
	it := ipc.Item{Name: rec.Name, Path: one.at.Path, State: string(record.Succeeded)}
	if r.Report.Volume != nil {
		it, r.Report.Volume = *r.Report.Volume, nil
		it.State = string(record.Succeeded)
	}
	if err != nil {
		it.State, it.Error = string(record.Failed), helper.Fault(err, helper.Task{Doing: fmt.Sprintf("move %q", one.from.Path)})
	}
	r.Report.Items = append(r.Report.Items, it)
	return err
}

// settlePools is buildSettle for a job over two pools.
func settlePools(o *operation.Settle, one settlement) (helper.Task, error) {
	from, err := poolOf(o, "source", *o.Source)
	if err != nil {
		return helper.Task{}, err
	}
	to, err := poolOf(o, "target", o.Volume)
	if err != nil {
		return helper.Task{}, err
	}
	w := evacuated{settlement: one, from: from, to: to}
	from.Changes, to.Changes = true, true
	return helper.Task{
		Doing:   fmt.Sprintf("settle job %s on pool %q", one.job, to.Target),
		Done:    fmt.Sprintf("settled job %s on pool %q", one.job, to.Target),
		Undone:  "what was unfinished may be there still",
		Writes:  to.Target,
		Opens:   []helper.Opening{to, from},
		Settles: true,
		Work:    w.work,
	}, nil
}
