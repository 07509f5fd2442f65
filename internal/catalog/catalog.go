// Package catalog is what is known of pools and volumes: lookup, identity, what
// stands on what, the space that is reserved, and what a job's grant and its end
// change in all that. What it knows of storage it learnt from helpers: it does no
// I/O on a pool. What it says is read and changed in transactions of the store.
package catalog

import (
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"storaged/internal/events"
	"storaged/internal/ipc"
	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/store"
)

// Catalog is what is known of pools and volumes, kept true to what jobs do. It is
// the supervisor's Catalog: those methods run inside the transaction that records
// the job's own change of state, and may be run again. It is safe for concurrent
// use.
type Catalog struct {
	hub  *events.Hub
	now  func() time.Time
	boot string // id of this boot

	devices func(pool string, devices ...string) // learns where pools lie
	taken   func(pool string) map[int64]int64    // what live jobs have taken by now of what they reserve in a pool

	keepDays int // how long what a failed job left unfinished is of use
	seek     *seeking

	mu      sync.Mutex
	kin     *kin                 // as of the newest transaction that was asked for it
	applied map[string]time.Time // when the newest finding applied began, by pool's uuid
	dropped map[string]time.Time // when a volume left the catalog, by its key
}

// New makes the catalog of a boot of the host. What a failed job left unfinished is kept
// for so many days, for a retry.
func New(hub *events.Hub, boot string, keepDays int) *Catalog {
	return &Catalog{
		keepDays: keepDays, seek: newSeeking(),
		hub: hub, now: func() time.Time { return time.Now().UTC() }, boot: boot,
		devices: func(string, ...string) {}, taken: func(string) map[int64]int64 { return nil },
		applied: map[string]time.Time{}, dropped: map[string]time.Time{},
	}
}

// Connect says whom to tell where pools lie, and who knows what live jobs have taken by
// now of what they reserve in a pool. It is called before any job begins.
func (c *Catalog) Connect(devices func(pool string, devices ...string), taken func(pool string) map[int64]int64) {
	c.devices, c.taken = devices, taken
}

// end is what an ended job comes to.
type end struct {
	operation.Operation
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

// OperationOf reads back what a job is to do.
func OperationOf(j *store.Job) (operation.Operation, error) {
	o, err := operation.Decode(j.Params)
	if err != nil {
		return nil, fmt.Errorf("job %d: %w", j.Number, err)
	}
	return o, nil
}

// Granted tells the catalog that a job begins, and the job which storage it must
// find: that may have changed since it was submitted.
func (c *Catalog) Granted(tx *store.Tx, j *store.Job) error {
	o, err := OperationOf(j)
	if err != nil {
		return record.Errorf(record.Unsupported, "%v", err)
	}
	for _, refusal := range []func() error{
		func() error { return Original(tx, o, j) },
		func() error { return started(tx, o) },
		func() error { return restack(tx, o) },
		func() error { return rechain(tx, o) },
		func() error { return asSeen(tx, o, j) },
		func() error { return c.seek.done(tx, o, j, c.now()) },
		func() error { return effectOf(o).granted(c, tx, o, j) },
		func() error { return errors.Join(Locate(tx, o), recall(tx, o, j)) },
		func() error { return c.equip(tx, o, j) },
	} {
		if err := refusal(); err != nil {
			return err
		}
	}
	j.Argv, j.UndoArgv = o.Task().Argv(), Settlement(o)
	return nil
}

// equip tells an operation what of the catalog its helper must know.
func (c *Catalog) equip(tx *store.Tx, o operation.Operation, j *store.Job) (err error) {
	if r, ok := o.(operation.Receiver); ok {
		r.Receive(ipc.DataFD)
	}
	j.Secrets = operation.HandSecrets(o, ipc.SecretFD)
	if s, ok := o.(operation.Standing); ok {
		dirs, err := homes(tx)
		if err != nil {
			return err
		}
		s.StandsIn(dirs)
	}
	if s, ok := o.(operation.Sparing); ok {
		devices, err := devicesOfOthers(tx, o.On())
		if err != nil {
			return err
		}
		s.Spare(devices)
	}
	if s, ok := o.(operation.Overlaying); ok {
		if err := forbidOverlay(tx, s, o.On().Pool); err != nil {
			return err
		}
	}
	switch o := o.(type) {
	case *operation.Evacuate:
		o.Stays, o.Images, err = staying(tx, o)
	case *operation.PoolDelete:
		err = equipDelete(tx, o)
	case *operation.PoolRefresh:
		o.Discard, err = c.discards(tx, o.Pool)
		j.Params = operation.Encode(o)
	}
	return err
}

// equipDelete tells the delete of a pool what may go, and what else is in use.
func equipDelete(tx *store.Tx, o *operation.PoolDelete) (err error) {
	if o.Others, err = otherTargets(tx, o.On()); err != nil || !o.WithVolumes {
		return err
	}
	names, err := heldIn(tx, o.Pool)
	if err != nil {
		return err
	}
	return o.Hold(names)
}

// Settlement is the task that settles a job after a death of its helper; nil:
// there is nothing to settle. It may have to be done after a reboot, which can
// give a device another number.
func Settlement(o operation.Operation) []string {
	o.On().PoolID = Lasting(o.On().Type, o.On().PoolID)
	if to := operation.Destination(o); to != nil {
		to.PoolID = Lasting(to.Type, to.PoolID)
	}
	s := o.Settle()
	if s == nil {
		return nil
	}
	return s.Task().Argv()
}

// Advanced tells it what a job over many volumes has done so far.
func (c *Catalog) Advanced(tx *store.Tx, j *store.Job, items []ipc.Item) error {
	o, err := OperationOf(j)
	if err != nil {
		return err
	}
	if e, ok := o.(*operation.Evacuate); ok {
		return c.evacuated(tx, e, j, items)
	}
	return nil
}

// Ended tells it how the job ended.
func (c *Catalog) Ended(tx *store.Tx, j *store.Job, r *ipc.Report) error {
	o, err := OperationOf(j)
	if err != nil {
		return c.abandon(tx, j, err)
	}
	if err := errors.Join(c.spent(tx, o, r), release(tx, o, j.Number)); err != nil {
		return err
	}
	e := end{Operation: o, job: j, report: r}
	if e.report, err = c.replaced(tx, e); err != nil {
		return err
	}
	if err := errors.Join(c.absences(tx, e), c.leftover(tx, e)); err != nil {
		return err
	}
	return errors.Join(effectOf(o).ended(c, tx, e), satisfied(tx, e))
}

// satisfied takes a job for done that was refused for what there is already, if that is
// what it was to bring about and the job says that it will do.
func satisfied(tx *store.Tx, e end) error {
	r, ok := e.Operation.(operation.Repeatable)
	if !ok || e.ok() || r.Tolerates() == "" || e.job.Code() != r.Tolerates() {
		return nil
	}
	pool, volume := operation.ResultOf(e.Operation)
	p, err := tx.Pool(pool)
	if err != nil {
		return IgnoreNotFound(err)
	}
	is, result := operation.Known{Pool: p.Pool}, record.Result{Pool: pool, Volume: volume, Unchanged: true}
	switch v, err := tx.Volume(pool, volume); {
	case err == nil:
		is.Volume, result.Key, result.Path, result.Capacity, result.Allocation = v.Volume, v.Key, v.Path, v.Capacity, v.Allocation
	case !errors.Is(err, store.ErrNotFound):
		return err
	}
	done, err := r.Done(is)
	var differs *record.Error
	switch {
	case done:
		e.job.State, e.job.Error, e.job.Result = record.Succeeded, nil, &result
	case errors.As(err, &differs):
		e.job.Error = differs
	}
	return nil
}

// abandon ends a job of which this version of storaged knows only the objects:
// what it was at work on is marked, and let go.
func (c *Catalog) abandon(tx *store.Tx, j *store.Job, why error) error {
	j.Error = record.Errorf(record.Inconsistent, "the job ended as %s, but what it did is not known: %v", j.State, why)
	j.State, j.Result = record.Failed, nil
	for _, o := range j.Objects {
		if err := errors.Join(c.disown(tx, o, j), c.vacate(tx, o.Pool, j)); err != nil {
			return err
		}
	}
	return nil
}

// disown marks a volume that a job was at work on as incomplete.
func (c *Catalog) disown(tx *store.Tx, o record.Object, j *store.Job) error {
	v, err := tx.Volume(o.Pool, o.Volume)
	if errors.Is(err, store.ErrNotFound) || err == nil && !Made(v, j) {
		return nil
	}
	if err != nil {
		return err
	}
	v.State = record.VolumeIncomplete
	v.Generation++
	return c.putVolume(tx, "volume.changed", v)
}

// vacate lets a pool go that a job had.
func (c *Catalog) vacate(tx *store.Tx, pool string, j *store.Job) error {
	p, err := tx.Pool(pool)
	if errors.Is(err, store.ErrNotFound) || err == nil && p.Job != j.Number {
		return nil
	}
	if err != nil {
		return err
	}
	c.move(p, p.Before, j.Error.Message)
	p.Before, p.Job = "", 0
	return c.putPool(tx, "pool.state", p)
}

// publish sends an event once the transaction is durable.
func (c *Catalog) publish(tx *store.Tx, e record.Event) {
	tx.OnCommit(func() { c.hub.Publish(e) })
}

func (c *Catalog) putVolume(tx *store.Tx, event string, v *store.Volume) error {
	ageSum(v)
	if err := tx.PutVolume(v); err != nil {
		return err
	}
	public := v.Volume
	c.publish(tx, record.Event{Type: event, Volume: &public})
	return nil
}

func (c *Catalog) dropVolume(tx *store.Tx, event string, v *store.Volume) error {
	if err := tx.DeleteVolume(v.Pool, v.Name); err != nil {
		return err
	}
	public := v.Volume
	c.publish(tx, record.Event{Type: event, Volume: &public})
	if event != vanished {
		tx.OnCommit(func() { c.noteDropped(public.Pool, public.Name) })
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
func (c *Catalog) noteDropped(pool, volume string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if len(c.dropped) >= maxDropped {
		maps.DeleteFunc(c.dropped, func(_ string, at time.Time) bool { return now.Sub(at) > dropLife })
	}
	c.dropped[pool+"/"+volume] = now
}

// goneSince reports whether a job took a volume of that name away after then.
func (c *Catalog) goneSince(pool, volume string, then *time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return then != nil && c.since(c.dropped[pool+"/"+volume], *then)
}

// since reports whether something was after then. What will be was before the
// clock was set back.
func (c *Catalog) since(at, then time.Time) bool { return at.After(then) && !at.After(c.now()) }

func (c *Catalog) putPool(tx *store.Tx, event string, p *store.Pool) error {
	if err := tx.PutPool(p); err != nil {
		return err
	}
	public := PublicPool(p)
	c.publish(tx, record.Event{Type: event, Pool: &public})
	return nil
}

// tellDevices says to the scheduler on which physical devices a pool lies.
func (c *Catalog) tellDevices(tx *store.Tx, p *store.Pool) {
	name, devices := p.Name, p.Devices
	tx.OnCommit(func() { c.devices(name, devices...) })
}

// move puts a pool into a state, for a reason people can read.
func (c *Catalog) move(p *store.Pool, s record.PoolState, reason string) {
	if p.State != s {
		p.Since = c.now()
	}
	p.State, p.Reason = s, reason
	p.NotStarted = p.NotStarted && s != record.PoolActive && s != record.PoolDegraded
	p.Generation++
}

// effect is what becomes of the catalog by a job: when it is granted, and when it
// has ended.
type effect struct {
	granted func(c *Catalog, tx *store.Tx, o operation.Operation, j *store.Job) error
	ended   func(c *Catalog, tx *store.Tx, e end) error
}

// effects are the table of what there is.
var effects = map[operation.Effect]effect{
	operation.Reads:     {beginReading, endReading},
	operation.Arranges:  {beginReading, endArranging},
	operation.Changes:   {markVolume, endInPlace},
	operation.Makes:     {beginMaking, endMaking},
	operation.Transfers: {beginMove, endMove},
	operation.Removes:   {markVolume, endDelete},
	operation.Preserves: {beginReading, endPreserving},
	operation.Reverts:   {beginReading, endReverting},
	operation.Discards:  {beginReading, endDiscarding},
	operation.Builds:    {beginPool(record.PoolBuilding), endPoolBuild},
	operation.Starts:    {beginPool(record.PoolStarting), endPoolStart},
	operation.Stops:     {beginPool(record.PoolStopping), endPoolStop},
	operation.Lists:     {beginPool(""), endPoolRefresh},
	operation.Inspects:  {beginPool(""), endPoolVerify},
	operation.Empties:   {beginEvacuate, endEvacuate},
	operation.Destroys:  {beginPool(record.PoolInactive), endPoolDelete},
}

func effectOf(o operation.Operation) effect {
	e, ok := effects[o.Effect()]
	if !ok {
		panic(fmt.Sprintf("internal error: %s has no effect: %d", o.Kind(), o.Effect()))
	}
	return e
}
