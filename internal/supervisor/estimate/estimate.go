// Package estimate says how far a job is and when it will end, from what its
// helper reports. It is pure: every call gets the time, which must carry
// a monotonic reading (time.Now) as long as one Estimator lives.
//
// Work is counted in the weights of the job's phases, of which each report
// completes a fraction. The rate at which weight is done is smoothed over a
// minute and blended with a prior: that of earlier jobs, or what was known
// before the rate had to be learned anew. Time in which nothing could be done
// (a pause) or nothing was (a stall) is not held against the rate.
package estimate

import (
	"math"
	"slices"
	"time"

	"storaged/internal/record"
)

const (
	endSpan  = 60 // seconds of the smoothing behind the end: steady rather than quick
	rateSpan = 15 // and behind the rate shown: people watch it react

	// So many seconds of own observation outweigh the prior: ten, but of a short
	// job no more than this share of the time that the prior gives it.
	priorWeight = 10
	priorShare  = 0.1

	// stallAfter is the shortest silence that counts as a stall, stallGaps how
	// many usual gaps between two moves a silence must exceed.
	stallAfter = 5 // seconds
	stallGaps  = 5
	knownMoves = 3 // so many moves in a phase show the usual gap

	// An end is published anew when it moved by more than this: two seconds, or
	// in the last seconds of a job a tenth of the time that remains.
	endMove      = 2 * time.Second
	endMoveShare = 0.02 // of the remaining time
	endMoveLast  = 0.1  // likewise

	mostPercent = 99.9 // before the result is there
)

// Phase is one step of a job's plan.
type Phase struct {
	Name    string
	Unit    string  // "bytes" or "items"
	Total   int64   // in Unit; 0: not known
	Weight  float64 // share of all the job's work
	Data    bool    // the phase whose done and total are the job's
	Bounded bool    // Total is final
}

// Report is the state of a phase, cumulative within it.
type Report struct {
	Phase         int   // index into the plan
	Done, Total   int64 // durable, in the phase's unit
	Work, WorkAll int64 // durable work units, in which holes count little; WorkAll 0: as Done and Total

	// Behind says that the work was as far before now, or is farther and not
	// counted yet: no rate is counted from here.
	Behind bool
}

func (r Report) work() (done, all float64) {
	if r.WorkAll > 0 {
		return float64(r.Work), float64(r.WorkAll)
	}
	return float64(r.Done), float64(r.Total)
}

// Estimator follows one job. It is not safe for concurrent use.
type Estimator struct {
	phases []Phase
	seen   []Report // the newest of each phase
	prior  Prior
	limit  *int64

	current int
	based   bool    // a report of this phase has come: rates are counted from it
	at      float64 // weight done, as of the newest report

	start  time.Time
	paused time.Duration // in all, without the present pause
	since  *time.Time    // the present pause
	lost   float64       // seconds of stalls, beyond the silence that made them such

	end    ewma    // weight per second
	shown  ewma    // work units per second: a hole counts as little as for the end
	passed ewma    // of what is done, holes included
	guess  float64 // weight per second known when the rate had to be learned anew; 0: nothing
	free   float64 // weight per second when no limit held it back; 0: not known

	moved   float64   // clock of the last move
	movedAt time.Time // the same as a time
	moves   int
	gap     float64 // usual seconds between two moves

	percent   float64
	published *time.Time // the end as last shown
	life      life
}

// life is what Finish learns from.
type life struct {
	began     bool
	clock     float64    // at the first report
	at        float64    // weight that was done then
	data      [2]float64 // clock at the first and last report of the data phase
	dataWork  [2]float64 // work units then
	dataSeen  bool
	dataBytes bool
	dataMoves int     // reports since the first that had more work
	limit     float64 // the lowest in force in the data phase, work units per second; 0: none
	forecast  [deciles]forecast
}

// forecast is what was predicted when a decile of the work was reached.
type forecast struct {
	ran       float64 // seconds without pauses
	remaining float64 // seconds; 0: none made
}

// New starts following a job with this plan, in its first phase. A helper that
// was adopted is followed by a new Estimator too: what was done before the
// first report is no measure of speed.
func New(plan []Phase, prior Prior, now time.Time) *Estimator {
	phases := weighted(plan)
	e := &Estimator{
		phases: phases, seen: make([]Report, len(phases)), prior: prior,
		start: now, movedAt: now, end: ewma{span: endSpan}, shown: ewma{span: rateSpan}, passed: ewma{span: rateSpan},
	}
	for i, p := range phases {
		e.seen[i] = Report{Phase: i, Total: p.Total}
	}
	e.relearn(now, e.priorRate())
	return e
}

// weighted copies the plan. Without any weight all phases weigh the same;
// without a phase the job is one of which nothing is known.
func weighted(plan []Phase) []Phase {
	if len(plan) == 0 {
		return []Phase{{Weight: 1}}
	}
	phases, sum := slices.Clone(plan), 0.0
	for i, p := range phases {
		if !(p.Weight > 0) || math.IsInf(p.Weight, 1) { // or NaN
			phases[i].Weight = 0
		}
		sum += phases[i].Weight
	}
	for i := range phases {
		if sum == 0 {
			phases[i].Weight = 1
		}
	}
	return phases
}

// Phase says that phase i has begun. Phases never go back.
func (e *Estimator) Phase(now time.Time, i int) {
	if i <= e.current || i >= len(e.phases) {
		return
	}
	e.current = i
	e.moves, e.gap, e.free = 0, 0, 0
	e.at = max(e.at, e.before(i))
	guess := e.priorRate()
	if avg := e.average(now); avg > 0 {
		guess = avg // weights promise the same speed for all phases
	}
	e.relearn(now, guess)
}

// Report takes a report; one that is out of date or of no phase is ignored.
func (e *Estimator) Report(now time.Time, r Report) {
	if r.Phase < e.current || r.Phase >= len(e.phases) {
		return
	}
	e.Phase(now, r.Phase)
	old := e.seen[r.Phase]
	e.seen[r.Phase] = r
	at := e.before(r.Phase) + e.phases[r.Phase].Weight*e.share(r.Phase)
	switch {
	case !e.based:
		e.based = !r.Behind
		e.move(now)
		e.forget(e.clock(now))
	case at > e.at || r.Done > old.Done:
		e.move(now)
		e.end.add(e.moved, max(at-e.at, 0))
		was, _ := old.work()
		is, _ := r.work()
		e.shown.add(e.moved, max(is-was, 0))
		e.passed.add(e.moved, float64(max(r.Done-old.Done, 0)))
	}
	e.at = at
	if e.based {
		e.learn(now, r)
	}
}

// Pause says that the job does nothing until Resume, on purpose.
func (e *Estimator) Pause(now time.Time) {
	if e.since == nil {
		e.since = &now
	}
}

// Resume ends a pause; the rate is learned anew.
func (e *Estimator) Resume(now time.Time) {
	if e.since == nil {
		return
	}
	rate := e.rate(now)
	e.paused += now.Sub(*e.since)
	e.since = nil
	e.movedAt = now
	e.relearn(now, rate)
}

// Limit says that the job may do no more than limit bytes per second, nil: as
// many as it can.
func (e *Estimator) Limit(now time.Time, limit *int64) {
	rate := e.rate(now)
	e.limit = limit
	switch {
	case e.free > 0:
		rate = e.free
	case e.priorRate() > 0:
		rate = e.priorRate()
	}
	e.relearn(now, min(rate, e.ceiling()))
}

// relearn forgets the rate but for guess; silence counts from now.
func (e *Estimator) relearn(now time.Time, guess float64) {
	clock := e.clock(now)
	e.lost = e.ran(now) - clock
	e.moved, e.movedAt = clock, now
	e.guess = guess
	e.based = false
	e.forget(clock)
}

// forget has the rates count from now.
func (e *Estimator) forget(clock float64) {
	e.end.reset(clock)
	e.shown.reset(clock)
	e.passed.reset(clock)
}

// ran is the time since the start without pauses, in seconds.
func (e *Estimator) ran(now time.Time) float64 {
	d := now.Sub(e.start) - e.paused
	if e.since != nil {
		d -= now.Sub(*e.since)
	}
	return max(d.Seconds(), 0)
}

// clock is ran without stalls: it stops when a silence has become one. As long
// as the usual gap is not known, silence may be the usual and counts.
func (e *Estimator) clock(now time.Time) float64 {
	t := e.ran(now) - e.lost
	if e.moves < knownMoves {
		return t
	}
	return min(t, e.moved+e.patience())
}

// patience is how long a silence may be, in seconds, before it is a stall.
func (e *Estimator) patience() float64 { return max(stallAfter, stallGaps*e.gap) }

// move notes that something became durable now.
func (e *Estimator) move(now time.Time) {
	clock := e.clock(now)
	e.lost = e.ran(now) - clock
	e.moves++
	share := max(1/float64(e.moves), 0.1) // a plain mean at first, then the newer ones
	e.gap += (clock - e.moved - e.gap) * share
	e.moved, e.movedAt = clock, now
}

// stalled reports since when nothing has become durable, if that is too long.
func (e *Estimator) stalled(now time.Time) (time.Time, bool) {
	if e.since != nil || e.phases[e.current].Total == 0 && !e.based {
		return time.Time{}, false // paused, or a phase that reports nothing
	}
	return e.movedAt, e.ran(now)-e.lost > e.moved+e.patience()
}

// before is the weight of the phases before i.
func (e *Estimator) before(i int) float64 {
	sum := 0.0
	for _, p := range e.phases[:i] {
		sum += p.Weight
	}
	return sum
}

// share is how much of a phase is done, 0 to 1.
func (e *Estimator) share(i int) float64 {
	done, all := e.seen[i].work()
	if all <= 0 {
		return 0
	}
	return min(max(done/all, 0), 1)
}

func (e *Estimator) bounded() bool {
	for i := e.current; i < len(e.phases); i++ {
		if !e.phases[i].Bounded {
			return false
		}
	}
	return true
}

// rate is the weight done per second, 0 when nothing is known.
func (e *Estimator) rate(now time.Time) float64 {
	clock := e.clock(now)
	seen, age := e.end.rate(clock), clock-e.end.start
	rate := seen
	if e.guess > 0 {
		weight := e.guessWeight()
		rate = (e.guess*weight + seen*age) / (weight + age)
	}
	return min(rate, e.ceiling())
}

// guessWeight is how many seconds of observation the guess counts for.
func (e *Estimator) guessWeight() float64 {
	return min(priorWeight, priorShare*e.before(len(e.phases))/e.guess)
}

// ceiling is the limit as weight per second.
func (e *Estimator) ceiling() float64 {
	p := e.phases[e.current]
	_, all := e.seen[e.current].work()
	if e.limit == nil || p.Unit != "bytes" || all <= 0 {
		return math.Inf(1)
	}
	return float64(*e.limit) * p.Weight / all
}

// average is the weight done per second since the first report.
func (e *Estimator) average(now time.Time) float64 {
	seconds := e.clock(now) - e.life.clock
	if !e.life.began || seconds <= 0 {
		return 0
	}
	return (e.at - e.life.at) / seconds
}

// priorRate is the prior as weight per second.
func (e *Estimator) priorRate() float64 {
	for i, p := range e.phases {
		if _, all := e.seen[i].work(); p.Data && all > 0 {
			return e.prior.Rate * p.Weight / all
		}
	}
	return 0
}

// remaining predicts the seconds of the work that remains.
func (e *Estimator) remaining(now time.Time) (seconds float64, ok bool) {
	rate := e.rate(now)
	if rate <= 0 || !e.bounded() {
		return 0, false
	}
	return max(e.before(len(e.phases))-e.at, 0) / rate, true
}

// Progress is how far the job is.
func (e *Estimator) Progress(now time.Time) record.Progress {
	shown := e.current
	for i, p := range e.phases {
		if p.Data {
			shown = i
		}
	}
	out := record.Progress{
		Unit: e.phases[shown].Unit, Done: e.seen[shown].Done, Total: e.seen[shown].Total,
		Bounded: e.bounded(),
	}
	if e.moving(now) {
		out.RateBytes = int64(e.shown.rate(e.ran(now) - e.lost))
	}
	if out.Bounded {
		p := min(100*e.at/e.before(len(e.phases)), mostPercent)
		e.percent = max(e.percent, math.Floor(p*10)/10)
		percent := e.percent
		out.Percent = &percent
	}
	return out
}

// moving reports whether bytes are moved: no pause and no stall.
func (e *Estimator) moving(now time.Time) bool {
	_, stalled := e.stalled(now)
	return e.phases[e.current].Unit == "bytes" && e.since == nil && !stalled
}

// Reach predicts the seconds until so much of the current phase is done, holes
// included; false if nothing is known.
func (e *Estimator) Reach(now time.Time, done int64) (seconds float64, ok bool) {
	rate := e.passed.rate(e.ran(now) - e.lost)
	if !e.moving(now) || rate < 1 {
		return 0, false
	}
	return float64(max(0, done-e.seen[e.current].Done)) / rate, true
}

// horizon is how far ahead an end is shown. What is farther is no end that anybody
// waits for, and soon none that a clock can show.
const horizon = 100 * 365 * 24 * time.Hour

// After is the time in so many seconds, nil if that is beyond the horizon.
func After(now time.Time, seconds float64) *time.Time {
	if !(seconds <= horizon.Seconds()) { // nor NaN
		return nil
	}
	at := now.Add(time.Duration(seconds * float64(time.Second)))
	return &at
}

// Estimate is when the job will end. A paused job has remaining time but no end, as
// has one whose end is beyond the horizon; a stalled one has neither.
func (e *Estimator) Estimate(now time.Time) record.Estimate {
	var out record.Estimate
	if since, yes := e.stalled(now); yes {
		e.published = nil
		out.StalledSince = &since
		return out
	}
	rest, ok := e.remaining(now)
	if !ok || math.IsInf(rest, 1) {
		e.published = nil
		return out
	}
	if e.since != nil || After(now, rest) == nil {
		e.published = nil
		out.RemainingS = &rest
		return out
	}
	e.publish(now, rest)
	e.fillEnd(&out, now)
	return out
}

// publish moves the end shown when it is wrong by more than people care about.
func (e *Estimator) publish(now time.Time, rest float64) {
	end := *After(now, rest)
	tolerance := max(min(endMove.Seconds(), endMoveLast*rest), endMoveShare*rest)
	if e.published == nil || end.Sub(*e.published).Abs().Seconds() > tolerance {
		e.published = &end
	}
}

// fillEnd fills in the published end and its band.
func (e *Estimator) fillEnd(out *record.Estimate, now time.Time) {
	rest := max(e.published.Sub(now).Seconds(), 0)
	early, late := e.prior.band(int(deciles * e.at / e.before(len(e.phases))))
	end := *e.published
	out.RemainingS, out.End, out.EndEarly, out.EndLate = &rest, &end, After(now, rest*early), After(now, rest*late)
}
