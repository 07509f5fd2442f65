package supervisor

import (
	"slices"
	"time"

	"storaged/internal/ipc"
	"storaged/internal/record"
	"storaged/internal/store"
)

// A window lets short jobs visit the objects of a long one (package locks). Its
// helper opens it, and closes it by asking and waiting: the supervisor lets
// nobody else in and acknowledges when the last visitor is gone. So a visitor
// has always ended before the job goes on. Only a helper that works or is
// paused has an open window: not one that is being canceled, whose job is
// recovering, or that settles another.
//
// A helper whose phase is on call opens one when it hears that somebody
// waits, which is looked for at every tick: it costs nothing while nobody does.

// mayOpen reports whether a job in that state may have an open window.
func mayOpen(s record.State) bool { return s == record.Running || s == record.Paused }

// interruptible lists the modes in which others may use the job's objects now.
func interruptible(window []record.Mode) []record.Mode {
	modes := []record.Mode{record.ModeQuery}
	for _, m := range window {
		if !slices.Contains(modes, m) {
			modes = append(modes, m)
		}
	}
	return modes
}

func (j *job) onWindow(m ipc.Window) {
	j.recordItems()
	if m.Open {
		j.openWindow()
		return
	}
	j.track.windowAt(m.Next)
	j.run.closing = &m.ID
	j.closeWindow()
}

// closeWindow closes the window for a helper that has asked, unless a visitor
// is about to come in: it waits for the windows of others too, which have been
// called for.
func (j *job) closeWindow() {
	if j.run.window != nil && time.Since(j.run.opened) < j.s.times.Window && j.entry.Wanted() {
		return // the next tick asks again
	}
	j.shutWindow()
	j.ackWindow()
}

// keepWindow does at every tick what is due about the window.
func (j *job) keepWindow() {
	switch {
	case j.run.closing != nil:
		j.closeWindow() // it could not be acknowledged, or was kept open
	case j.run.window == nil && j.entry.Wanted():
		j.send(ipc.WindowCall{})
	}
	j.track.looksAgain(j.s.times.Tick)
}

// listen says whether the job opens windows when it is called.
func (j *job) listen() {
	mask, onCall := j.track.window()
	if !onCall || !mayOpen(j.rec.State) || j.rec.Undo || j.run.gone {
		mask = nil
	}
	j.entry.OnCall(mask)
}

// recordItems brings into the catalog what the helper has done further, of many
// objects. What fails now is done at the next window, or at the end.
func (j *job) recordItems() {
	items, err := ipc.ReadItems(j.s.launcher.dir(j.id).Items())
	if err == nil && len(items) > j.rec.Advanced && !j.rec.Undo {
		more := items[j.rec.Advanced:]
		err = j.commit(func(r *store.Job) { r.Advanced = len(items) }, func(tx *store.Tx, r *store.Job) error {
			return j.s.catalog.Advanced(tx, r, more)
		})
	}
	if err != nil {
		j.s.log.Error("what a job has done is not recorded yet", "job", j.rec.Number, "error", err)
	}
}

// openWindow lets in who may visit in the current phase.
func (j *job) openWindow() {
	if !mayOpen(j.rec.State) || j.rec.Undo || j.run.gone {
		return
	}
	mask, _ := j.track.window()
	if err := j.entry.OpenWindow(mask); err != nil {
		j.s.log.Warn("window stays closed", "job", j.rec.Number, "error", err)
		return
	}
	if j.run.window == nil {
		j.run.opened = time.Now()
	}
	j.run.window = mask
	j.track.news()
	j.publish()
}

// shutWindow lets nobody in any more; who is inside stays.
func (j *job) shutWindow() {
	j.entry.CloseWindow()
	j.run.window = nil
	j.publish()
}

// ackWindow lets the helper go on, if it waits for that and nobody is inside.
func (j *job) ackWindow() {
	if j.run.closing == nil || j.entry.Visited() {
		return
	}
	if j.send(ipc.WindowAck{ID: *j.run.closing}) {
		j.run.closing = nil
		j.publish()
	}
}

// alone is the stage before the start of another helper, which has to have the
// job's objects to itself: those whom the dead one had let in leave first.
func (j *job) alone() stage {
	j.run.emptying = true
	j.shutWindow()
	for j.entry.Visited() {
		select {
		case <-j.entry.Vacated:
		case a := <-j.asks:
			j.answer(a)
		case <-j.s.stopping:
			return nil
		}
	}
	j.run.emptying = false
	j.publish()
	return (*job).launch
}
