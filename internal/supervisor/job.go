package supervisor

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"storaged/internal/crash"
	"storaged/internal/record"
	"storaged/internal/store"
	"storaged/internal/supervisor/estimate"
	"storaged/internal/supervisor/schedule"
)

// job is a live job. One goroutine owns it from Submit or Start to its end and
// makes every change of it; others see what it has published in shown, and ask
// through asks.
type job struct {
	s     *Supervisor
	id    string
	asks  chan ask // to the goroutine, as long as it lives
	entry *schedule.Entry
	ended chan struct{} // closed by the goroutine when the end is durable
	done  chan struct{} // closed by the goroutine as its last act
	shown atomic.Pointer[shown]
	track *tracker

	// The rest belongs to the goroutine.
	rec     store.Job // slices, maps and pointers in it are replaced, never changed
	moved   chan struct{}
	first   stage
	h       *helper
	data    *os.File // for the helper; nil: there is none, or it has it
	run     running
	verdict *verdict
	noticed noticed
	delayed record.Blocker // why it cannot start yet; zero: it can

	answerer   *job   // which does the work of this one too; nil: none does
	companions []*job // whose work this one does too
}

// shown is what others may see of a job. It is never changed.
type shown struct {
	rec    store.Job
	moved  chan struct{}   // closed when the state has changed
	paused time.Time       // since when; zero: it is not
	window []record.Mode   // who may come in; nil: it is closed
	clears bool            // it waits for those inside to leave
	stuck  *record.Blocker // a process that no kill ends
	awaits *record.Blocker // the helper, while it has not answered a cancel
	lacks  *record.Blocker // room, for which the helper waits by itself
}

// stage is a part of a job's life. It gives the next one, nil at the end or
// when the supervisor stops.
type stage func(*job) stage

// ask is a verb on its way to the job's goroutine.
type ask struct {
	do    func(*job) error
	reply chan error // one slot
}

func newJob(s *Supervisor, rec *store.Job, first stage) *job {
	j := &job{
		s: s, id: rec.ID, rec: *rec, first: first,
		asks:  make(chan ask),
		ended: make(chan struct{}),
		done:  make(chan struct{}),
		moved: make(chan struct{}),
		track: newTracker(s.prior(rec.Kind, rec.Objects)),
	}
	j.track.found(rec)
	j.entry = s.schedule.NewEntry(j.planned())
	j.publish()
	return j
}

// planned is the job as the scheduler knows it.
func (j *job) planned() schedule.Job {
	r := &j.rec
	return schedule.Job{
		ID: r.ID, Number: r.Number, Kind: r.Kind, Class: r.Class, Priority: r.Priority, Objects: r.Objects,
		Owner: r.Owner, Created: r.Created, Moves: r.Moves, Limit: deref(r.Limit), Outlook: j.track,
	}
}

// live is the goroutine of the job.
func (j *job) live() {
	defer close(j.done)
	for at := j.first; at != nil; {
		at = at(j)
	}
	if j.h != nil {
		j.h.close()
	}
	j.dropData()
}

// takeData keeps a copy of a descriptor until the helper has it.
func (j *job) takeData(f *os.File) error {
	if f == nil {
		return nil
	}
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("cannot keep a descriptor for a job: %w", err)
	}
	j.data = os.NewFile(uintptr(fd), f.Name())
	return nil
}

// dropData closes our copy of the descriptor for the helper.
func (j *job) dropData() {
	if j.data != nil {
		j.data.Close() // it is the helper's by now, or nobody's
		j.data = nil
	}
}

// dataLost is the verdict on a job whose helper cannot have the descriptor any
// more that a client gave for it: the daemon that had it is gone.
func dataLost() *verdict {
	e := record.Errorf(record.Interrupted, "the daemon was restarted before the helper had the client's file or stream; nothing was touched").
		WithHint("start it again")
	return &verdict{state: record.Failed, err: e, rollback: record.RollbackNone}
}

// publish lets others see the job as it is now.
func (j *job) publish() {
	j.shown.Store(&shown{
		rec: j.rec, moved: j.moved, paused: j.run.pausedSince, stuck: j.run.stuck, awaits: j.run.awaited, lacks: j.run.lacks,
		window: j.run.window, clears: j.run.closing != nil || j.run.emptying,
	})
}

// commit makes a change durable. hook is run in the same transaction; both may
// be run more than once. On an error nothing has changed.
func (j *job) commit(change func(*store.Job), hook func(*store.Tx, *store.Job) error) error {
	var next store.Job
	next = j.rec
	change(&next)
	if next.State != j.rec.State {
		mustMove(j.rec.State, next.State)
	}
	err := j.s.store.Update(func(tx *store.Tx) error {
		next = j.rec
		change(&next)
		if hook != nil {
			if err := hook(tx, &next); err != nil {
				return err
			}
		}
		return tx.PutJob(&next)
	})
	if err != nil {
		return err
	}
	j.accept(next)
	return nil
}

// commitOrNote makes a change, durable if that is possible. It is for changes
// that must have their effect on a full disk too: a cancel, a pause. The next
// commit that works carries them.
func (j *job) commitOrNote(change func(*store.Job)) {
	if err := j.commit(change, nil); err != nil {
		j.s.log.Error("change of a job is not durable", "job", j.rec.Number, "error", err)
		j.note(change)
	}
}

// note makes a change that needs not survive the daemon: the next start would
// find it out from the helper.
func (j *job) note(change func(*store.Job)) {
	next := j.rec
	change(&next)
	if next.State != j.rec.State {
		mustMove(j.rec.State, next.State)
	}
	j.accept(next)
}

func (j *job) accept(next store.Job) {
	moved := next.State != j.rec.State
	rested := (next.State == record.Paused) != (j.rec.State == record.Paused)
	if moved {
		j.accountPause(&next)
	}
	j.rec = next
	if moved {
		defer close(j.moved) // who waits for it sees what is published here
		j.moved = make(chan struct{})
	}
	if j.run.window != nil && !mayOpen(next.State) {
		j.shutWindow()
	}
	if moved {
		j.listen()
	}
	j.publish()
	if rested {
		j.entry.SetPaused(next.State == record.Paused)
	}
	if moved && !next.State.Terminal() {
		j.announce("job.state")
	}
}

// accountPause keeps the time spent paused, at each move but the last: what
// conclude has made durable has it.
func (j *job) accountPause(next *store.Job) {
	now, paused := time.Now(), next.State == record.Paused
	switch since := j.run.pausedSince; {
	case paused && since.IsZero():
		j.run.pausedSince = now
	case !paused && !since.IsZero():
		if !next.State.Terminal() {
			next.PausedS += seconds(now.Sub(since))
		}
		j.run.pausedSince = time.Time{}
	}
	j.track.pause(paused)
}

// become notes a new state.
func (j *job) become(s record.State) {
	if j.rec.State != s {
		j.note(func(r *store.Job) { r.State = s })
	}
}

// announce publishes an event with the job as it is now.
func (j *job) announce(what string) {
	v := j.view()
	j.s.hub.Publish(record.Event{Type: what, Job: &v})
}

// warn adds a warning once.
func (j *job) warn(texts ...string) {
	j.note(func(r *store.Job) { r.Warnings = addWarnings(r.Warnings, texts) })
	j.track.news()
}

// maxWarnings bounds what a helper can make us keep.
const maxWarnings = 100

func addWarnings(have, more []string) []string {
	out := slices.Clone(have)
	for _, w := range more {
		if len(out) < maxWarnings && !slices.Contains(out, w) {
			out = append(out, w)
		}
	}
	return out
}

// answer runs a verb that reached the goroutine.
func (j *job) answer(a ask) { a.reply <- a.do(j) }

// view gives the public record as of now.
func (j *job) view() record.Job { return j.viewOf(j.shown.Load()) }

func (j *job) viewOf(seen *shown) record.Job {
	v := j.sketch(seen)
	if v.State == record.Queued {
		v.WaitingOn = append(v.WaitingOn, j.entry.Blockers()...)
	}
	if seen.clears {
		v.WaitingOn = append(v.WaitingOn, j.entry.Inside()...)
	}
	return v
}

// sketch is the view but for which other jobs are in the way: that costs most.
func (j *job) sketch(seen *shown) record.Job {
	v := seen.rec.Job
	v.WaitingOn = slices.Clone(v.WaitingOn)
	for _, b := range []*record.Blocker{seen.awaits, seen.stuck} {
		if b != nil {
			v.WaitingOn = append(v.WaitingOn, *b)
		}
	}
	if seen.lacks != nil && v.State == record.Paused {
		v.WaitingOn = append(v.WaitingOn, *seen.lacks)
		v.PauseReasons = append(slices.Clone(v.PauseReasons), record.PauseSpace)
	}
	if v.Started != nil && v.Ended == nil {
		v.ElapsedS = seconds(time.Since(*v.Started))
		if !seen.paused.IsZero() {
			v.PausedS += seconds(time.Since(seen.paused))
		}
	}
	if !v.State.Terminal() {
		j.track.fill(&v)
		v.Cancelable = answerTo(actCancel, v.State).effect != ""
		v.Interruptible = interruptible(seen.window)
	}
	return withLists(v)
}

// withLists makes empty lists of absent ones: programs read [] and not null.
func withLists(v record.Job) record.Job {
	v.Objects = orEmpty(v.Objects)
	v.WaitingOn = orEmpty(v.WaitingOn)
	v.Interruptible = orEmpty(v.Interruptible)
	v.PauseReasons = orEmpty(v.PauseReasons)
	v.Warnings = orEmpty(v.Warnings)
	v.Changes = orEmpty(v.Changes)
	if v.Labels == nil {
		v.Labels = map[string]string{}
	}
	return v
}

func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func seconds(d time.Duration) float64 { return max(0, d.Round(time.Millisecond).Seconds()) }

// end is the last stage: the verdict becomes durable, together with what the
// Catalog makes of it; only then the locks are let go.
func (j *job) end() stage {
	report := j.run.report
	hook := func(tx *store.Tx, r *store.Job) error {
		if err := j.s.catalog.Ended(tx, r, report); err != nil {
			return err
		}
		return j.learn(tx, r)
	}
	for {
		err := j.commit(j.conclude, hook)
		if err == nil {
			break
		}
		j.s.log.Error("end of a job is not recorded yet", "job", j.rec.Number, "error", err)
		if hook != nil && !passes(err) {
			j.verdict, hook = j.verdict.untaken(err), nil
			continue
		}
		if !j.pauseFor(j.s.times.RetrySave) {
			return nil
		}
	}
	crash.At(crash.Ended)
	j.answerOthers()
	j.dropCheckpoint()
	j.observe() // first: who hears of the end finds it counted
	j.s.forget(j)
	j.dismiss()
	crash.At(crash.Dismissed)
	close(j.ended)
	j.announce("job.ended")
	return nil
}

// passes reports whether a transaction that failed may work another time: the
// disk was full, say. Whatever else keeps it from working is there to stay.
func passes(err error) bool {
	return errors.Is(err, store.ErrUnwritable) || errors.Is(err, store.ErrClosed)
}

// dismiss removes what the job's helper needed to run.
func (j *job) dismiss() {
	if j.h != nil {
		j.h.close()
		j.h = nil
	}
	if err := j.s.launcher.remove(j.s.launcher.dir(j.id)); err != nil {
		j.s.log.Warn("job directory stays", "job", j.rec.Number, "error", err)
	}
}

// workKey names the kind of work whose speed is comparable: what is done, and
// to which pools.
func workKey(kind record.Kind, objects []record.Object) string {
	key := string(kind)
	for _, o := range objects {
		key += " " + o.Pool
	}
	return key
}

// prior gives what earlier jobs teach about this one. Without a readable
// history the first estimate is a little later.
func (s *Supervisor) prior(kind record.Kind, objects []record.Object) (p estimate.Prior) {
	err := s.store.View(func(tx *store.Tx) error {
		h, err := tx.History(workKey(kind, objects))
		if err == nil {
			p = estimate.PriorOf(h)
		}
		return err
	})
	if err != nil {
		p = estimate.PriorOf(nil)
	}
	return p
}

// Expect predicts how many seconds the helper of a request will work that moves
// so many bytes: by what such jobs took before, and by its limit. It is nil when
// neither is known.
func (s *Supervisor) Expect(r Request, bytes int64) *float64 {
	if bytes == 0 {
		return nil
	}
	expected := s.prior(r.Kind, r.Objects).Expect(bytes)
	if r.Limit == nil {
		return expected
	}
	slowed := float64(bytes) / float64(*r.Limit)
	if expected != nil {
		slowed = max(slowed, *expected)
	}
	return &slowed
}

// learn keeps what a job that succeeded teaches about the next ones.
func (j *job) learn(tx *store.Tx, r *store.Job) error {
	if r.State != record.Succeeded {
		return nil
	}
	h, err := tx.History(workKey(r.Kind, r.Objects))
	if err != nil {
		h = &store.History{Key: workKey(r.Kind, r.Objects)} // none yet, or damaged: begun anew
	}
	j.track.learn(h)
	if len(h.Rates) == 0 {
		return nil // it was over before anything could be measured
	}
	return tx.PutHistory(h)
}

// pauseFor waits before something is tried again, and goes on answering verbs.
// It gives false when the supervisor stops.
func (j *job) pauseFor(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			return true
		case a := <-j.asks:
			j.answer(a)
		case <-j.s.stopping:
			return false
		}
	}
}

// tryLater is for what could not be recorded: it waits before that is tried
// again. It gives false when the supervisor stops.
func (j *job) tryLater(what string, err error) bool {
	j.s.log.Error(what, "job", j.rec.Number, "error", err)
	return j.pauseFor(j.s.times.RetrySave)
}

// conclude writes the verdict into the record.
func (j *job) conclude(r *store.Job) {
	v, now := j.verdict, j.endTime()
	r.State, r.Error, r.Rollback = v.state, v.err, v.rollback
	r.Warnings = addWarnings(r.Warnings, v.warnings)
	r.Ended, r.Reserved, r.Taken = &now, 0, j.track.takes()
	r.WaitingOn, r.PauseReasons, r.Interruptible, r.Cancelable = nil, nil, nil, false
	if r.Started != nil {
		r.ElapsedS = seconds(now.Sub(*r.Started))
	}
	if !j.run.pausedSince.IsZero() {
		r.PausedS += seconds(now.Sub(j.run.pausedSince))
	}
	j.track.conclude(&r.Job)
	r.Result = resultOf(j.run.report, r)
	if v.answer != nil {
		r.Result, r.AnsweredBy = v.answer.Result, &v.answer.Number
	}
	at, why := j.resumable(v)
	r.Resumable, r.Interrupted = at, nil
	if why != nil {
		r.Warnings = addWarnings(r.Warnings, []string{"a retry begins anew: " + why.Error()})
	}
	if v.err != nil && r.Resumable != nil {
		r.Error = resumeHint(v.err, r.Number)
	}
	if !r.Undo { // else they are those of the helper that died
		r.Stats = j.run.stats()
		if r.Stats != nil && len(r.Stats.Phases) > 0 {
			r.Stats.Phases = together(r.Spent, r.Stats.Phases)
		}
	}
}

// endTime is when the job ended: now, or when a helper wrote its result while
// nobody watched.
func (j *job) endTime() time.Time {
	now := time.Now().UTC()
	if at := j.run.unseen; at != nil && at.Before(now) && (j.rec.Started == nil || at.After(*j.rec.Started)) {
		return *at
	}
	return now
}

// errDone says that the job's goroutine is gone: the store has the truth.
var errDone = errors.New("the job's goroutine has ended")

// call has the goroutine carry a verb out, and gives its answer.
func (j *job) call(do func(*job) error) error {
	a := ask{do, make(chan error, 1)}
	select {
	case j.asks <- a:
		return <-a.reply
	case <-j.done:
		return errDone
	}
}
