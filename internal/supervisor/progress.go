package supervisor

import (
	"slices"
	"sync"
	"time"

	"storaged/internal/ipc"
	"storaged/internal/record"
	"storaged/internal/store"
	"storaged/internal/supervisor/estimate"
)

// tracker knows how far a job is and when it will end. The job's goroutine
// brings what the helper says; anybody reads.
type tracker struct {
	mu        sync.Mutex
	est       *estimate.Estimator // nil before the plan
	prior     estimate.Prior
	phases    []ipc.PlanPhase
	index     int                 // of the phase, -1 before the first
	since     time.Time           // of the phase, or of when it was first heard of
	spent     []record.PhaseStats // of the phases before it
	limit     int64
	paused    bool
	floor     float64   // percent never falls, not even when the plan changes
	again     bool      // another helper or daemon was at work before: the record has how far it was
	heard     bool      // progress was reported by the helper that is at work
	unshown   bool      // something has changed since the last event
	stalled   bool      // as last shown
	stalledOn string    // who waits in the kernel or is stopped, while the job is stalled
	taken     int64     // bytes of what the job reserves that it has blocks for already
	opens     int64     // how much of the phase is done when the next window opens; 0: not known
	looks     time.Time // when it is next looked whether a window is to be called for
}

func newTracker(prior estimate.Prior) *tracker { return &tracker{index: -1, prior: prior} }

// found takes over how far a job was shown to be, when it is one that another
// daemon had.
func (t *tracker) found(r *store.Job) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.again, t.taken = r.Go, r.Taken
	if r.Progress.Percent != nil {
		t.floor = *r.Progress.Percent
	}
}

// plan takes over the phases; it may come again with better totals.
func (t *tracker) plan(m ipc.Plan) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	t.phases, t.unshown = m.Phases, true
	phases := make([]estimate.Phase, 0, len(m.Phases))
	for _, p := range m.Phases {
		phases = append(phases, estimate.Phase{Name: p.Name, Unit: p.Unit, Total: p.Total, Weight: p.Weight, Data: p.Data, Bounded: p.Bounded})
	}
	t.est = estimate.New(phases, t.prior, now)
	t.est.Phase(now, t.index)
	if t.limit > 0 {
		t.est.Limit(now, &t.limit)
	}
	if t.paused {
		t.est.Pause(now)
	}
}

// restart waits for the plan of another helper. What the first one had done is
// no measure of the speed of this one.
func (t *tracker) restart() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.est, t.phases, t.index, t.limit, t.opens, t.spent = nil, nil, -1, 0, 0, nil
	t.again, t.heard = true, false
}

func (t *tracker) phase(m ipc.Phase) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if m.Index <= t.index || m.Index >= len(t.phases) {
		return // it was known, or is of a plan that we did not get
	}
	t.enter(m.Index)
	t.unshown, t.opens = true, 0
	t.est.Phase(t.since, m.Index)
}

// enter notes that the phase of that index has begun, if it is not known.
func (t *tracker) enter(index int) {
	if index > t.index {
		now := time.Now()
		t.spent = t.spentAt(now)
		t.index, t.since = index, now
	}
}

// spentUntil gives how long the helper was in its phases, for one that died then.
func (t *tracker) spentUntil(died time.Time) []record.PhaseStats {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.spentAt(died)
}

// spentAt is spentUntil for a helper that is at work yet. What it said last may be read, and
// a phase begin with that, after it has died.
func (t *tracker) spentAt(now time.Time) []record.PhaseStats {
	if t.index < 0 || t.index >= len(t.phases) {
		return t.spent
	}
	return together(t.spent, []record.PhaseStats{{Name: t.phases[t.index].Name, Seconds: seconds(max(0, now.Sub(t.since)))}})
}

// together is the time of phases in which one helper was after another.
func together(first, then []record.PhaseStats) []record.PhaseStats {
	all := slices.Clone(first)
	for _, p := range then {
		i := slices.IndexFunc(all, func(q record.PhaseStats) bool { return q.Name == p.Name })
		if i < 0 {
			all = append(all, p)
		} else {
			all[i].Seconds += p.Seconds
		}
	}
	return all
}

// progress takes what is durable: what was only submitted may still be lost.
// behind is that of an estimate.Report.
func (t *tracker) progress(m ipc.Progress, behind bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.taken = max(m.Allocated, m.Written) // blocks come first, or with what is written
	if t.est == nil || m.Phase >= len(t.phases) {
		return
	}
	t.enter(m.Phase)
	t.unshown, t.heard = true, true
	t.est.Report(time.Now(), estimate.Report{
		Phase: m.Phase, Done: m.Durable, Total: m.Total, Work: m.Work, WorkAll: m.WorkAll, Behind: behind,
	})
}

// takes gives how much of what the job reserves it has blocks for already.
func (t *tracker) takes() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.taken
}

// setLimit takes the limit that the helper says is in force.
func (t *tracker) setLimit(rate int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if rate == t.limit {
		return
	}
	t.limit = rate
	switch {
	case t.est == nil:
	case rate == 0:
		t.est.Limit(time.Now(), nil)
	default:
		t.est.Limit(time.Now(), &rate)
	}
}

func (t *tracker) pause(on bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if on == t.paused {
		return
	}
	t.paused, t.unshown = on, true
	switch {
	case t.est == nil:
	case on:
		t.est.Pause(time.Now())
	default:
		t.est.Resume(time.Now())
	}
}

// news says that something else about the job is worth an event.
func (t *tracker) news() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.unshown = true
}

// takeNews reports whether something has changed since the last call.
func (t *tracker) takeNews() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	news := t.unshown
	t.unshown = false
	return news
}

// waits notes on what a stalled job waits, which where tells.
func (t *tracker) waits(where func() string) {
	t.mu.Lock()
	stalled := t.est != nil && t.est.Estimate(time.Now()).StalledSince != nil
	t.mu.Unlock()
	at := ""
	if stalled {
		at = where() // it reads of processes, for which nobody is to wait
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.unshown = t.unshown || at != t.stalledOn || stalled != t.stalled
	t.stalled, t.stalledOn = stalled, at
}

// fill writes phase, progress and estimate of a live job.
func (t *tracker) fill(v *record.Job) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p := t.phaseNow(); p != nil {
		v.Phase = p // else what the record has stays: another daemon may have known
	}
	if t.est == nil || t.again && !t.heard {
		return // how far the job is is not known, or not from this helper yet
	}
	now := time.Now()
	v.Progress, v.Estimate = t.est.Progress(now), t.est.Estimate(now)
	if v.Progress.Percent != nil {
		t.floor = max(t.floor, *v.Progress.Percent)
		v.Progress.Percent = new(t.floor)
	}
	if v.Estimate.StalledSince != nil {
		v.Estimate.StalledOn = t.stalledOn
	}
	switch v.State {
	case record.Running, record.Paused, record.Finalizing:
	case record.Canceling: // what does not move may be what the cancel waits for
		v.Estimate = record.Estimate{StalledSince: v.Estimate.StalledSince, StalledOn: v.Estimate.StalledOn}
	default:
		v.Estimate = record.Estimate{} // it is of work that is not done any more
	}
}

// pace is the rate in bytes per second, and whether the job makes no progress though it
// should.
func (t *tracker) pace() (rate int64, stalled bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.est == nil || t.again && !t.heard {
		return 0, false
	}
	now := time.Now()
	if p := t.est.Progress(now); p.Unit == "bytes" {
		rate = p.RateBytes
	}
	return rate, t.est.Estimate(now).StalledSince != nil
}

func (t *tracker) phaseNow() *record.Phase {
	if t.index < 0 || t.index >= len(t.phases) {
		return nil
	}
	return &record.Phase{Index: t.index + 1, Count: len(t.phases), Name: t.phases[t.index].Name}
}

// ExpectedEnd is when the job's end is predicted, nil when it is not.
func (t *tracker) ExpectedEnd() *time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.est == nil {
		return nil
	}
	return t.est.Estimate(time.Now()).End
}

// window gives the modes that may visit in the current phase, and whether its
// windows open when called for.
func (t *tracker) window() (mask []record.Mode, onCall bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.windowNow()
}

func (t *tracker) windowNow() (mask []record.Mode, onCall bool) {
	mask = []record.Mode{}
	if t.index < 0 || t.index >= len(t.phases) {
		return mask, false
	}
	for _, m := range t.phases[t.index].Mask {
		mask = append(mask, record.Mode(m))
	}
	return mask, t.phases[t.index].OnCall
}

// looksAgain notes that visitors are looked for again after d.
func (t *tracker) looksAgain(d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.looks = time.Now().Add(d).UTC()
}

// windowAt takes what the helper says of its next window.
func (t *tracker) windowAt(done int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.opens, t.unshown = done, true
}

// NextWindow is when a visitor of that mode is expected to be let in, nil when
// nobody knows or it never will.
func (t *tracker) NextWindow(m record.Mode) *time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	mask, onCall := t.windowNow()
	if t.est == nil || !slices.Contains(mask, m) {
		return nil
	}
	if onCall && !t.looks.IsZero() {
		return new(t.looks)
	}
	if t.opens == 0 || t.paused {
		return nil
	}
	now := time.Now()
	rest, ok := t.est.Reach(now, t.opens)
	if !ok {
		return nil
	}
	return estimate.After(now.UTC(), rest)
}

// conclude writes what is kept of an ended job.
func (t *tracker) conclude(v *record.Job) {
	t.fill(v)
	v.Estimate = record.Estimate{}
	v.Progress.RateBytes = 0
	if v.State != record.Succeeded {
		return
	}
	v.Progress.Percent, v.Progress.Bounded = new(100.0), true
	v.Progress.Done = max(v.Progress.Done, v.Progress.Total)
	v.Progress.Total = v.Progress.Done
}

// learn adds what the job teaches to the history of its kind of work.
func (t *tracker) learn(h *store.History) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.est != nil {
		estimate.Learn(h, t.est.Finish(time.Now()))
	}
}

// errors gives how far off the estimates of a job that succeeded now were.
func (t *tracker) errors() []*float64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.est == nil {
		return nil
	}
	o := t.est.Finish(time.Now())
	return o.Errors[:]
}
