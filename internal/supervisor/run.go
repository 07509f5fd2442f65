package supervisor

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"

	"storaged/internal/crash"
	"storaged/internal/ipc"
	"storaged/internal/record"
	"storaged/internal/store"
	"storaged/internal/supervisor/process"
	"storaged/internal/supervisor/schedule"
)

// running is what the job's goroutine knows of the helper at work.
type running struct {
	ladder  ladder
	tick    *time.Ticker
	poll    *time.Timer // asks whether the lock is free, after the helper's end
	pollGap time.Duration

	proto   int   // protocol version agreed on
	rate    int64 // that the helper was last sent
	hello   bool  // the helper said a HELLO that we accept
	adopted bool
	gone    bool // the main process has ended
	free    bool // and so has everybody who held the lock
	exit    process.Exit
	goneAt  time.Time

	heard       time.Time // of the last frame
	planned     time.Time // when the plan came
	result      *ipc.Result
	fault       *record.Error // why we ended it, other than by a cancel
	report      *ipc.Report
	first       verdict       // what was decided before the settling helper ran
	moved       *ipc.Progress // the last one; nil before
	unseen      *time.Time    // when a helper ended that nobody watched, as its result file says
	pausedSince time.Time
	stuck       *record.Blocker
	awaited     *record.Blocker // the helper, while it has not answered a cancel
	lacks       *record.Blocker // room, for which the helper waits by itself
	window      []record.Mode   // who may come in; nil: it is closed
	opened      time.Time       // when it was
	closing     *int64          // the WINDOW that is to be acknowledged
	emptying    bool            // another helper is to be started when the visitors are gone
	announced   time.Time       // when the last progress event was
}

// fresh clears what belongs to one helper and keeps what belongs to the job.
func (r *running) fresh() {
	*r = running{first: r.first, pausedSince: r.pausedSince}
}

// wait is the stage of a queued job. It has entered the queue already.
func (j *job) wait() stage {
	deadline := newAlarm(j.patience())
	defer deadline.Stop()
	for late := false; j.verdict == nil; {
		select {
		case <-j.entry.Granted:
			if j.begins() {
				return (*job).start
			}
		case a := <-j.asks:
			j.answer(a)
		case <-deadline.C:
			late = true
		case <-j.s.stopping:
			return nil
		}
		if late && j.answerer == nil && j.verdict == nil { // else another is at its work already
			if next := j.runOut(); next != nil {
				return next
			}
		}
	}
	return j.over()
}

// runOut ends the waiting of a job whose time is up, unless its grant came in
// time, and both were there to be seen.
func (j *job) runOut() stage {
	select {
	case <-j.entry.Granted:
		if j.begins() {
			return (*job).start
		}
	default:
		j.verdict = j.tooLate()
	}
	return nil
}

// patience is until when the job waits for its locks. One that had them before
// the daemon went away gets them again, however late it is by now.
func (j *job) patience() *time.Time {
	if j.rec.Granted {
		return nil
	}
	return j.rec.Deadline
}

// begins takes a grant, unless the job was paused while it was on its way.
func (j *job) begins() bool {
	if len(j.rec.PauseReasons) == 0 {
		return true
	}
	j.entry.Hold(schedule.Paused)
	return false
}

// newAlarm gives a timer for a time of day, one that never fires without it.
func newAlarm(at *time.Time) *time.Timer {
	if at == nil {
		t := time.NewTimer(time.Hour)
		t.Stop()
		return t
	}
	return time.NewTimer(time.Until(*at))
}

// tooLate is the verdict on a job that did not get its locks in time.
func (j *job) tooLate() *verdict {
	holders := j.entry.Blockers()
	e := BusyError(j.rec.Subject(), holders)
	e.Message += fmt.Sprintf("; waited %v", time.Since(j.rec.Created).Round(time.Second))
	return &verdict{state: record.Failed, err: e, rollback: record.RollbackNone}
}

// start is the stage of a job that holds its locks and its slot.
func (j *job) start() stage {
	now := time.Now().UTC()
	err := j.confinable()
	if err == nil {
		err = j.commit(func(r *store.Job) {
			r.State, r.Granted = record.Starting, true
			begin(r, now)
		}, j.s.catalog.Granted)
	}
	var refusal *record.Error
	var soon *SoonError
	switch {
	case errors.As(err, &soon):
		return j.startAfter(soon.Ready)
	case err == nil:
		j.delayed = record.Blocker{}
		crash.At(crash.Granted)
		j.gather()
		return (*job).launch
	case errors.As(err, &refusal) && !passes(err): // a disk that is full is no refusal
		j.verdict = &verdict{state: record.Failed, err: refusal, rollback: record.RollbackNone}
		return j.over()
	case !passes(err) && !errors.Is(err, ErrNotYet):
		refusal = record.Errorf(record.Internal, "the catalog cannot take the beginning of the job: %v", err)
		j.verdict = &verdict{state: record.Failed, err: refusal, rollback: record.RollbackNone}
		return j.over()
	}
	j.putOff(err)
	if !j.pauseFor(j.s.times.RetrySave) {
		return nil
	}
	if j.verdict == nil && len(j.rec.PauseReasons) == 0 {
		j.entry.Release()
	}
	return (*job).wait
}

// confinable refuses to begin a job whose helper could not give up enough: the daemon
// may have come back on another kernel, or with other settings, while it waited. One that
// goes on is refused by its helper, which knows what to do with what is unfinished.
func (j *job) confinable() error {
	_, unable := j.s.confinement()
	if j.rec.Undo || j.rec.Resumed > 0 {
		return nil
	}
	return unable
}

// startAfter is start when something is ready. Who asks something of the job
// meanwhile gets an answer.
func (j *job) startAfter(ready <-chan struct{}) stage {
	for {
		select {
		case <-ready:
			if !j.begins() {
				return (*job).wait
			}
			return (*job).start
		case a := <-j.asks:
			if j.answer(a); j.verdict != nil {
				return j.over()
			}
		case <-j.s.stopping:
			return nil
		}
	}
}

// putOff takes a job that cannot start yet out of the way of others, and says
// why; for as long as that is the same, it logs and announces it once.
func (j *job) putOff(err error) {
	why, level := record.Blocker{For: "space", Holder: &record.Holder{External: "state directory: " + err.Error()}}, hclog.Error
	if errors.Is(err, ErrNotYet) {
		why, level = record.Blocker{For: "hold", Holder: &record.Holder{External: err.Error()}}, hclog.Debug
	}
	if was := j.delayed.Holder; was != nil && was.External == why.Holder.External {
		j.entry.Hold(j.delayed)
		return
	}
	j.s.log.Log(level, "job cannot start yet", "job", j.rec.Number, "error", err)
	why.Since = time.Now().UTC()
	j.delayed = why
	j.entry.Hold(why)
	j.announce("job.progress")
}

// launch starts the job's helper, or the one that settles it.
func (j *job) launch() stage {
	needsData := j.rec.Data && !j.rec.Undo
	if needsData && j.data == nil {
		j.verdict = dataLost()
		return (*job).end
	}
	j.run.fresh()
	d := j.s.launcher.dir(j.id)
	err := j.readyCheckpoint()
	var h *helper
	if err == nil {
		h, err = j.withSecrets(func(secrets []*os.File) (*helper, error) {
			return j.s.launcher.launch(d, j.task(), given{j.data, secrets, !j.keepsBusy()})
		})
	}
	j.dropData()
	if err != nil {
		j.verdict = j.notStarted(err)
		return (*job).end
	}
	crash.At(crash.Launched)
	j.h = h
	j.run.ladder.arm(j.s.times.Hello)
	return (*job).attend
}

// withSecrets opens the secrets that the job's work needs while its helper is started. To
// settle it takes none.
func (j *job) withSecrets(start func([]*os.File) (*helper, error)) (*helper, error) {
	var secrets []*os.File
	defer func() {
		for _, f := range secrets {
			f.Close() // the helper has its own
		}
	}()
	if !j.rec.Undo {
		for _, name := range j.rec.Secrets {
			f, err := j.s.secret(name)
			if err != nil {
				return nil, err
			}
			secrets = append(secrets, f)
		}
	}
	return start(secrets)
}

// notStarted is the verdict when there is no helper to speak of.
func (j *job) notStarted(err error) *verdict {
	e := ending{fault: record.Errorf(record.Internal, "the helper could not be started: %v", err), asked: j.rec.CancelAsk}
	if refusal, ok := errors.AsType[*record.Error](err); ok {
		e.fault = refusal
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EROFS) {
		e.fault.Code = record.StateUnwritable
	}
	if j.rec.Undo {
		v := settled(j.run.first, e)
		return &v
	}
	v := decide(e)
	return &v
}

// task is what the next helper is to do.
func (j *job) task() []string {
	switch r := &j.rec; {
	case !r.Undo && (r.Resumed > 0 || r.From != "") && !r.Anew:
		return slices.Concat(r.Argv, []string{flagResume})
	case !r.Undo:
		return r.Argv
	case j.keepsCheckpoint():
		return slices.Concat(r.UndoArgv, []string{flagResumable})
	default:
		return r.UndoArgv
	}
}

// attend follows a helper from its start, or from its adoption, until nobody
// lives who could write.
func (j *job) attend() stage {
	j.run.tick = time.NewTicker(j.s.times.Tick)
	defer j.run.tick.Stop()
	j.run.poll = time.NewTimer(time.Hour)
	j.run.poll.Stop()
	defer j.run.ladder.disarm()
	frames, exited := j.h.frames, j.h.exited()
	if j.h.proc == nil {
		j.lost(j.lastWords())
	}
	for frames != nil || !j.run.free {
		select {
		case f, ok := <-frames:
			if ok {
				j.frame(f)
				continue
			}
			frames = nil
			j.unreadable()
		case <-exited:
			exited = nil
			j.lost(j.h.proc.Exit())
		case a := <-j.asks:
			j.answer(a)
		case <-j.entry.Reshare:
			j.sendRate()
		case <-j.run.ladder.c():
			j.climb()
		case <-j.entry.Vacated:
			j.ackWindow()
		case <-j.run.poll.C:
			j.askLock()
		case <-j.run.tick.C:
			j.keepHouse()
		case <-j.s.stopping:
			return nil
		}
	}
	return (*job).judge
}

// lost notes the end of the main process and looks who lives still.
func (j *job) lost(e process.Exit) {
	j.run.gone, j.run.exit, j.run.goneAt = true, e, time.Now()
	j.setAwaited(nil)
	j.run.closing = nil
	j.shutWindow() // it cannot ask for that any more
	j.listen()
	j.run.pollGap = j.s.times.LockPoll
	j.askLock()
}

// askLock looks whether the lock is free. Who holds it still may write, so the
// job goes on holding its own locks; without the helper, that work makes no
// sense any more, and who does it is killed.
func (j *job) askLock() {
	held, err := j.h.family.Held()
	if err != nil {
		j.s.log.Error("cannot ask for the lock of a job", "job", j.rec.Number, "error", err)
		held = true
	}
	if !held {
		j.run.free = true
		j.noteStopped()
		j.setStuck(nil)
		j.h.drain(j.s.times.Drain)
		return
	}
	if err := j.h.family.Kill(); err != nil {
		j.s.log.Warn("cannot kill what a helper started", "job", j.rec.Number, "error", err)
	}
	if time.Since(j.run.goneAt) > j.s.times.Stuck {
		j.callStuck()
	}
	j.run.poll.Reset(j.run.pollGap)
	j.run.pollGap = min(2*j.run.pollGap, j.s.times.LockPollUp)
}

// callStuck says with the job which process a kill does not end, and where in
// the kernel it is.
func (j *job) callStuck() {
	since := time.Now().UTC()
	if j.run.stuck != nil {
		since = j.run.stuck.Since
	} else {
		j.s.log.Error("a helper does not end when killed; its locks stay held", "job", j.rec.Number, "who", j.h.family.Stuck())
	}
	j.setStuck(&record.Blocker{For: "device", Since: since, Holder: &record.Holder{External: j.h.family.Stuck()}})
}

func (j *job) setStuck(b *record.Blocker) {
	if b == nil && j.run.stuck == nil {
		return
	}
	j.run.stuck = b
	j.publish()
}

// setAwaited says with the job that a cancel waits for its helper, or no longer.
func (j *job) setAwaited(b *record.Blocker) {
	if b == nil && j.run.awaited == nil {
		return
	}
	j.run.awaited = b
	j.publish()
	j.track.news()
}

// setLacks says with the job that its helper waits for room, which text names, or no longer.
func (j *job) setLacks(text string) {
	was := j.run.lacks
	switch {
	case text == "" && was == nil, was != nil && was.Holder.External == text:
		return
	case text == "":
		j.run.lacks = nil
	default:
		b := record.Blocker{For: "space", Since: time.Now().UTC(), Holder: &record.Holder{External: text}}
		if was != nil {
			b.Since = was.Since
		}
		j.run.lacks = &b
	}
	j.publish()
	j.track.news()
}

// unreadable deals with the end of the frames. A helper that wrote what is no
// frame is broken or hostile: it is stopped.
func (j *job) unreadable() {
	err := j.h.broken()
	if err == nil || j.run.free {
		return
	}
	fault := record.Errorf(record.Internal, "the helper broke the protocol: %v", err)
	if !j.rec.Go {
		j.blame(fault)
		j.kill()
		return
	}
	j.stopHelper(fault)
}

// stopHelper ends a helper that was let go, for another reason than a cancel.
// Its result will say canceled, and who reads that, after a restart too, must
// know that it was not.
func (j *job) stopHelper(why *record.Error) {
	j.blame(why)
	j.commitOrNote(func(r *store.Job) { r.Fault = j.run.fault })
	j.cancelHelper()
}

// blame keeps the first reason for which we end the helper.
func (j *job) blame(e *record.Error) {
	if j.run.fault == nil {
		j.run.fault = e
	}
}

// fault is why we ended the helper, other than by a cancel, also when that was
// before a restart.
func (j *job) fault() *record.Error {
	if j.run.fault == nil && !j.rec.Undo {
		return j.rec.Fault
	}
	return j.run.fault
}

// keepHouse does what is due once a second.
func (j *job) keepHouse() {
	if err := j.h.log.trim(); err != nil {
		j.s.log.Warn("log of a job is not bounded", "job", j.rec.Number, "error", err)
	}
	j.keepWindow()
	if j.run.awaited != nil {
		j.track.news() // its time runs out
	}
	j.track.waits(j.h.family.Waiting)
	j.publishProgress()
}

// judge is the stage after the death of a helper and all that it started.
func (j *job) judge() stage {
	e := j.ending()
	if j.unsettledYet(e) {
		return j.again()
	}
	if j.run.adopted && (!j.rec.Go || e.unreached()) {
		return j.unbegun()
	}
	j.noteDeath(e)
	if j.canGoOn(e) {
		return j.goOn(e.cause())
	}
	v := j.judgement(e)
	if v.settle {
		return j.settle(v)
	}
	j.verdict = &v
	return (*job).end
}

// judgement is the verdict on a helper's end. What an earlier helper did has to
// be looked after too where this one did not come to it.
func (j *job) judgement(e ending) verdict {
	j.run.report = e.report
	if j.rec.Undo {
		return settled(j.run.first, e)
	}
	v := decide(e)
	if j.rec.Resumed > 0 && v.state != record.Succeeded && v.rollback == record.RollbackNone {
		v.settle = e.undoes
	}
	return v
}

// ending gathers what is known of the helper's end.
func (j *job) ending() ending {
	e := ending{
		exit: j.run.exit, began: j.rec.Go, asked: j.rec.CancelAsk,
		undoes: len(j.rec.UndoArgv) > 0, fault: j.fault(),
	}
	r, digest, err := ipc.LoadReport(j.s.launcher.dir(j.id).Result())
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		e.torn = err
	case j.run.result != nil && j.run.result.Digest != digest:
		e.torn = errors.New("the result file is not the one that the helper announced")
	default:
		e.report = r
	}
	return e
}

// settle records that another helper has to find out and undo, and starts it.
// How far the first one came is kept with it.
func (j *job) settle(v verdict) stage {
	stats := j.run.stats()
	change := func(r *store.Job) {
		r.State, r.Undo, r.Error = record.RollingBack, true, v.err
		r.Warnings = addWarnings(r.Warnings, v.warnings)
		j.track.fill(&r.Job)
		r.Estimate, r.Progress.RateBytes, r.Stats = record.Estimate{}, 0, stats
	}
	for {
		err := j.commit(change, nil)
		if err == nil {
			break
		}
		if !j.tryLater("job cannot be settled yet", err) {
			return nil
		}
	}
	crash.At(crash.Settling)
	v.warnings = nil // they are in the record
	j.run.first = v
	return j.again()
}

// again lets go of a helper that is dead, for another that settles the job.
func (j *job) again() stage {
	if j.h != nil {
		j.h.close()
		j.h = nil
	}
	return (*job).alone
}
