package supervisor

import (
	"runtime"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"

	"storaged/internal/crash"
	"storaged/internal/ipc"
	"storaged/internal/record"
	"storaged/internal/store"
)

// frame handles one frame of the helper. What no longer applies is ignored.
func (j *job) frame(f ipc.Frame) {
	j.run.heard = time.Now()
	switch m := f.Body.(type) {
	case ipc.Hello:
		j.onHello(m)
		return
	case ipc.Log:
		j.onLog(m)
		return
	}
	if !j.run.hello && j.run.adopted {
		j.answered()
	}
	if !j.run.hello {
		return // it is not known yet whose it is
	}
	if j.rec.Undo && ofOwnWork(f.Body) {
		return
	}
	switch m := f.Body.(type) {
	case ipc.Plan:
		j.track.plan(m)
		j.run.planned = time.Now()
		j.listen()
	case ipc.Phase:
		j.onPhase(m)
	case ipc.Progress:
		j.run.moved = &m
		j.track.progress(m, j.behind(f, m))
		if j.rec.State == record.Recovering && !j.rec.CancelAsk {
			j.follow(record.Running)
		}
		j.publishProgress()
	case ipc.State:
		j.onState(m)
	case ipc.Confined:
		j.onConfined(m)
	case ipc.Warn:
		j.warn(cut(m.Text, m.Cut))
	case ipc.Window:
		j.onWindow(m)
	case ipc.Result:
		j.onResult(m)
	}
}

// behind reports whether progress says less than has been done: an adopted
// helper repeats what it said last, and one that goes on where another was
// interrupted begins at nothing and counts what that did a moment later.
func (j *job) behind(f ipc.Frame, m ipc.Progress) bool {
	goesOn := j.rec.Resumed > 0 || j.rec.From != ""
	return j.run.adopted && f.Sent().Before(j.run.planned) || goesOn && m.Done == 0
}

// ofOwnWork reports whether a frame says how far its helper is. Of one that
// settles a job, it would hide how far the job was.
func ofOwnWork(m ipc.Message) bool {
	switch m.(type) {
	case ipc.Plan, ipc.Phase, ipc.Progress:
		return true
	}
	return false
}

func cut(text string, more bool) string {
	if more {
		return text + " …"
	}
	return text
}

// onHello lets the helper begin, once its identity is durable.
func (j *job) onHello(m ipc.Hello) {
	if j.run.hello || j.run.gone {
		return
	}
	if e := j.unfit(m); e != nil {
		j.blame(e)
		j.kill()
		return
	}
	switch {
	case j.run.adopted:
		j.answered()
		j.setVersion(m.Version)
	case j.run.ladder.rung == rungNone:
		j.letGo(m)
	}
}

// answered notes the first word of an adopted helper. A rollback that another
// daemon began goes on; every other state the helper says itself.
func (j *job) answered() {
	j.run.hello = true
	if j.run.ladder.rung == rungNone {
		j.run.ladder.disarm()
	}
	if j.rec.Undo {
		j.become(record.RollingBack)
		j.run.ladder.arm(j.s.times.Silence)
	}
}

// unfit says why we do not work with a helper.
func (j *job) unfit(m ipc.Hello) *record.Error {
	if m.Job != j.id {
		return record.Errorf(record.Internal, "the helper says that it runs job %q", m.Job)
	}
	if m.PID != j.h.pid() {
		return record.Errorf(record.Internal, "process %d said HELLO for helper %d", m.PID, j.h.pid())
	}
	if j.run.adopted {
		return nil // agreed with the daemon that let it go
	}
	proto, err := m.Agree(j.s.speaks)
	if err != nil {
		return record.Errorf(record.Internal, "%v", err).WithHint("install the helper that came with this storaged")
	}
	j.run.proto = proto
	return nil
}

// letGo records whom GO is for and sends it. From the record on the helper
// counts as having begun, whether GO arrives or not.
func (j *job) letGo(m ipc.Hello) {
	err := j.h.awaitName()
	if err == nil {
		err = j.commit(func(r *store.Job) { j.identify(r, m) }, nil)
	}
	if err != nil {
		j.blame(record.Errorf(record.StateUnwritable, "the helper was stopped before it began: %v", err))
		j.kill()
		return
	}
	crash.At(crash.Identity)
	j.leaveRecord()
	j.run.hello = true
	j.run.ladder.disarm()
	if j.rec.Undo {
		j.run.ladder.arm(j.s.times.Silence)
	}
	if j.makesWay() {
		j.h.proc.Yield()
	}
	j.send(j.terms())
	crash.At(crash.Let)
}

// keepsBusy reports whether the helper may keep a processor busy for long. Short work, and
// what is undone, somebody waits for.
func (j *job) keepsBusy() bool {
	p := j.planned()
	return p.Class == record.Async && !p.Short() && !j.rec.Undo
}

// crowd is how many helpers for each processor may keep it busy before others make way:
// so few leave enough to whoever waits for an answer.
const crowd = 2

// makesWay reports whether the helper goes behind others on a busy processor.
func (j *job) makesWay() bool {
	return j.keepsBusy() && j.s.schedule.Long() > crowd*runtime.NumCPU()
}

// terms is GO for the helper. What is undone is neither slowed down nor paused,
// which nobody could take back any more, and is undone however far that is confined.
func (j *job) terms() ipc.Go {
	g := ipc.Go{Proto: j.run.proto, Fill: int(j.s.fill.Load())}
	if !j.rec.Undo {
		g.Limit, g.Paused = j.entry.Rate(), len(j.rec.PauseReasons) > 0
		g.Confinement, _ = j.s.confinement()
	}
	j.run.rate = g.Limit
	return g
}

// identify records which process the helper is.
func (j *job) identify(r *store.Job, m ipc.Hello) {
	h := &record.Helper{PID: m.PID, Argv: j.argv(), Version: m.Version}
	r.StartTicks, r.Boot, r.Proto, r.Go, r.Fault = j.h.proc.Ticks(), j.s.boot, j.run.proto, true, nil
	if r.Undo {
		r.Settler = h
		return
	}
	r.Helper, r.State = h, record.Running
}

func (j *job) argv() []string { return append([]string{helperName}, j.task()...) }

// setVersion notes that the adopted helper is of another version than was
// recorded, which nobody knows of one that settles.
func (j *job) setVersion(v string) {
	if j.rec.Undo || j.rec.Helper == nil || j.rec.Helper.Version == v {
		return
	}
	helper := *j.rec.Helper
	helper.Version = v
	j.note(func(r *store.Job) { r.Helper = &helper })
}

// onConfined records how far the helper has given up what it could do.
func (j *job) onConfined(m ipc.Confined) {
	if j.rec.Undo || j.rec.Helper == nil {
		return
	}
	helper := *j.rec.Helper
	helper.Confinement = &record.Confinement{
		Level: m.Level, Landlock: m.Landlock, Seccomp: m.Seccomp, Anywhere: m.Anywhere,
		Capabilities: append([]string{}, m.Capabilities...), Lacks: append([]string{}, m.Lacks...),
	}
	j.note(func(r *store.Job) { r.Helper = &helper })
}

func deref(n *int64) int64 {
	if n == nil {
		return 0
	}
	return *n
}

// send sends a control frame. A helper that cannot be reached is met by the
// ladder, when it matters.
func (j *job) send(m ipc.Message) (sent bool) {
	err := j.h.send(m)
	if err != nil {
		j.s.log.Warn("cannot send to a helper", "job", j.rec.Number, "frame", int(m.Type()), "error", err)
	}
	return err == nil
}

// sendRate sends the helper what it may go at, when that has changed.
func (j *job) sendRate() {
	if j.h == nil || !j.rec.Go || j.rec.Undo {
		return // GO will say; what is undone is not slowed down
	}
	if rate := j.entry.Rate(); rate != j.run.rate {
		j.run.rate = rate
		j.send(ipc.Limit{Rate: rate})
	}
}

func (j *job) onPhase(m ipc.Phase) {
	j.track.phase(m)
	j.listen()
	if j.run.window != nil {
		j.openWindow() // for the visitors of this phase now
	}
	if m.NoReturn && mayMove(j.rec.State, record.Finalizing) && j.rec.State != record.Recovering {
		j.become(record.Finalizing)
	}
}

// onState follows what the helper says that it does.
func (j *job) onState(m ipc.State) {
	j.track.setLimit(m.Limit)
	j.setLacks(m.Waits)
	switch m.Activity {
	case ipc.ActivityCanceling, ipc.ActivityRollingBack:
		j.acknowledged(m)
	case ipc.ActivityRunning:
		j.follow(record.Running)
	case ipc.ActivityPaused:
		j.follow(record.Paused)
	case ipc.ActivityFinalizing:
		j.follow(record.Finalizing)
	}
}

// follow takes over a state that is no cancel. While a cancel or a rollback is
// under way such a word is late.
func (j *job) follow(to record.State) {
	from := []record.State{record.Running, record.Paused, record.Recovering}
	if slices.Contains(from, j.rec.State) && j.rec.State != to && !j.rec.Undo {
		j.become(to)
	}
}

// acknowledged notes that the helper stops or undoes. A cancel that we did not
// ask for came by a signal of others; what comes so to a helper that settles
// is none.
func (j *job) acknowledged(m ipc.State) {
	j.run.ladder.acked = true
	j.setAwaited(nil)
	if m.FromAfar && !j.rec.CancelAsk && !j.rec.Undo && j.fault() == nil {
		by := record.Owner{UID: record.NoUID, Via: record.ViaSignal, PID: m.SenderPID}
		j.note(func(r *store.Job) { r.CanceledBy = &by })
	}
	to := record.Canceling
	if m.Activity == ipc.ActivityRollingBack {
		to = record.RollingBack
	}
	if mayMove(j.rec.State, to) {
		j.become(to)
	}
	if j.run.ladder.rung == rungNone {
		j.run.ladder.rung = rungCancel
	}
	if j.run.ladder.rung <= rungTerm {
		j.run.ladder.arm(j.s.times.Silence)
	}
}

func (j *job) onLog(m ipc.Log) {
	if err := j.h.log.line(m); err != nil {
		j.s.log.Warn("line of a helper is lost", "job", j.rec.Number, "error", err)
	}
	level := hclog.LevelFromString(m.Level)
	if level == hclog.NoLevel {
		level = hclog.Info
	}
	j.s.log.Log(level, cut(m.Text, m.Cut), "job", j.rec.Number, "helper", j.h.pid())
}

// onResult notes the announcement of the result. What counts is the file.
func (j *job) onResult(m ipc.Result) {
	j.run.result = &m
	j.run.ladder.acked = false // there is nothing to wait for any more but its exit
	j.setAwaited(nil)
	if j.run.ladder.rung <= rungTerm {
		j.run.ladder.arm(j.s.times.Linger)
	}
}

// publishProgress publishes progress, at most once per interval and only when
// something has changed.
func (j *job) publishProgress() {
	if time.Since(j.run.announced) < j.s.times.Progress || !j.track.takeNews() {
		return
	}
	j.run.announced = time.Now()
	j.announce("job.progress")
}
