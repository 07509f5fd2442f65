package service

import (
	"errors"
	"maps"
	"sync"
	"time"

	"storaged/internal/events"
	"storaged/internal/ipc"
	"storaged/internal/record"
	"storaged/internal/store"
)

// keeper keeps the catalogue true to what jobs do. It is the supervisor's
// Keeper: its methods run inside the transaction that records the job's own
// change of state, and may be run again.
type keeper struct {
	hub  *events.Hub
	now  func() time.Time
	boot string // id of this boot

	devices func(pool string, devices ...string) // told where pools lie
	taken   func(pool string) map[int64]int64    // what live jobs have taken by now of what they reserve in a pool

	resume ResumeConfig
	seek   *seeking

	mu      sync.Mutex
	applied map[string]time.Time // when the newest finding applied began, by pool's uuid
	dropped map[string]time.Time // when a volume left the catalogue, by its key
}

func newKeeper(hub *events.Hub, boot string, resume ResumeConfig) *keeper {
	return &keeper{
		resume: resume, seek: newSeeking(),
		hub: hub, now: func() time.Time { return time.Now().UTC() }, boot: boot,
		devices: func(string, ...string) {}, taken: func(string) map[int64]int64 { return nil },
		applied: map[string]time.Time{}, dropped: map[string]time.Time{},
	}
}

// end is what an ended job comes to.
type end struct {
	work
	job    *store.Job
	report *ipc.Report // nil: nothing is known of the end
}

// ok reports whether the job did what it was to do.
func (e end) ok() bool { return e.job.State == record.Succeeded }

// own reports whether e.report comes from the helper that did the work. If not,
// there is none, it contradicted the exit status, or it comes from the helper
// that settled the job after the first one died. The job's error cannot tell the
// cases apart: it is the same for a helper that a cancel killed and for one that
// stopped when it was told to.
func (e end) own() bool {
	return e.report != nil && !e.job.Undo && e.job.Code() != record.Inconsistent
}

// Granted tells the catalogue that a job begins, and the job which directories
// it must find: they may have changed since it was submitted.
func (k *keeper) Granted(tx *store.Tx, j *store.Job) error {
	w, err := workOf(j)
	if err != nil {
		return record.Errorf(record.Unsupported, "%v", err)
	}
	if err := w.original(tx, j); err != nil {
		return err
	}
	if err := w.started(tx); err != nil {
		return err
	}
	if err := w.meant(tx, j); err != nil {
		return err
	}
	if err := k.seek.done(w, j, k.now()); err != nil {
		return err
	}
	if err := w.kind().granted(k, tx, w, j); err != nil {
		return err
	}
	if err := errors.Join(w.locate(tx), w.recall(tx, j)); err != nil {
		return err
	}
	if w.Kind == record.PoolRefresh {
		if err := k.discards(tx, &w); err != nil {
			return err
		}
		j.Params = w.encode()
	}
	j.Argv, j.UndoArgv = w.operation().Task().Argv(), w.settle()
	return nil
}

// Advanced tells it what a job over many volumes has done so far.
func (k *keeper) Advanced(tx *store.Tx, j *store.Job, items []ipc.Item) error {
	w, err := workOf(j)
	if err != nil {
		return err
	}
	kind := w.kind()
	if kind.advanced == nil {
		return nil
	}
	return kind.advanced(k, tx, end{work: w, job: j}, items)
}

// Ended tells it how the job ended.
func (k *keeper) Ended(tx *store.Tx, j *store.Job, r *ipc.Report) error {
	w, err := workOf(j)
	if err != nil {
		return k.abandon(tx, j, err)
	}
	if err := errors.Join(k.spent(tx, w, r), w.release(tx, j.Number)); err != nil {
		return err
	}
	e := end{work: w, job: j, report: r}
	if e.report, err = k.replaced(tx, e); err != nil {
		return err
	}
	if err := errors.Join(k.absences(tx, e), k.left(tx, e)); err != nil {
		return err
	}
	return w.kind().ended(k, tx, e)
}

// abandon ends a job of which this version of storaged knows only the objects:
// what it was at work on is marked, and let go.
func (k *keeper) abandon(tx *store.Tx, j *store.Job, why error) error {
	j.Error = record.Errorf(record.Inconsistent, "the job ended as %s, but what it did is not known: %v", j.State, why)
	j.State, j.Result = record.Failed, nil
	for _, o := range j.Objects {
		if err := errors.Join(k.disown(tx, o, j), k.vacate(tx, o.Pool, j)); err != nil {
			return err
		}
	}
	return nil
}

// disown marks a volume that a job was at work on as incomplete.
func (k *keeper) disown(tx *store.Tx, o record.Object, j *store.Job) error {
	v, err := tx.Volume(o.Pool, o.Volume)
	if errors.Is(err, store.ErrNotFound) || err == nil && !made(v, j) {
		return nil
	}
	if err != nil {
		return err
	}
	v.State, v.Planned = record.VolumeIncomplete, 0
	v.Generation++
	return k.putVolume(tx, "volume.changed", v)
}

// vacate lets a pool go that a job had.
func (k *keeper) vacate(tx *store.Tx, pool string, j *store.Job) error {
	p, err := tx.Pool(pool)
	if errors.Is(err, store.ErrNotFound) || err == nil && p.Job != j.Number {
		return nil
	}
	if err != nil {
		return err
	}
	k.move(p, p.Before, j.Error.Message)
	p.Before, p.Job = "", 0
	return k.putPool(tx, "pool.state", p)
}

// publish sends an event once the transaction is durable.
func (k *keeper) publish(tx *store.Tx, e record.Event) {
	tx.OnCommit(func() { k.hub.Publish(e) })
}

func (k *keeper) putVolume(tx *store.Tx, event string, v *store.Volume) error {
	ageSum(v)
	if err := tx.PutVolume(v); err != nil {
		return err
	}
	public := v.Volume
	k.publish(tx, record.Event{Type: event, Volume: &public})
	return nil
}

func (k *keeper) dropVolume(tx *store.Tx, event string, v *store.Volume) error {
	if err := tx.DeleteVolume(v.Pool, v.Name); err != nil {
		return err
	}
	public := v.Volume
	k.publish(tx, record.Event{Type: event, Volume: &public})
	if event != vanished {
		tx.OnCommit(func() { k.noteDropped(public.Pool, public.Name) })
	}
	return nil
}

// vanished is the event of a volume that a reading of its pool did not find.
const vanished = "volume.vanished"

// maxDropped bounds what is remembered of dropped volumes; dropLife is how old
// a reading of a pool can be at most when it is applied.
const (
	maxDropped = 10_000
	dropLife   = time.Hour
)

// noteDropped remembers that a job took a volume away, lest a reading that was
// begun before finds it again.
func (k *keeper) noteDropped(pool, volume string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.now()
	if len(k.dropped) >= maxDropped {
		maps.DeleteFunc(k.dropped, func(_ string, at time.Time) bool { return now.Sub(at) > dropLife })
	}
	k.dropped[pool+"/"+volume] = now
}

// goneSince reports whether a job took a volume of that name away after then.
func (k *keeper) goneSince(pool, volume string, then *time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return then != nil && k.since(k.dropped[pool+"/"+volume], *then)
}

// since reports whether something was after then. What will be was before the
// clock was set back.
func (k *keeper) since(at, then time.Time) bool { return at.After(then) && !at.After(k.now()) }

func (k *keeper) putPool(tx *store.Tx, event string, p *store.Pool) error {
	if err := tx.PutPool(p); err != nil {
		return err
	}
	public := publicPool(p)
	k.publish(tx, record.Event{Type: event, Pool: &public})
	return nil
}

// tellDevices tells the scheduler on which physical devices a pool lies.
func (k *keeper) tellDevices(tx *store.Tx, p *store.Pool) {
	name, devices := p.Name, p.Devices
	tx.OnCommit(func() { k.devices(name, devices...) })
}

// move puts a pool into a state, for a reason people can read.
func (k *keeper) move(p *store.Pool, s record.PoolState, reason string) {
	if p.State != s {
		p.Since = k.now()
	}
	p.State, p.Reason = s, reason
	p.NotStarted = p.NotStarted && s != record.PoolActive && s != record.PoolDegraded
	p.Generation++
}
