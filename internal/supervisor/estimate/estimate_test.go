package estimate

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"storaged/internal/record"
	"storaged/internal/store"
)

// job plays a helper that does what the test says, on a clock of its own.
type job struct {
	t    *testing.T
	e    *Estimator
	now  time.Time
	done int64
	all  int64
}

// start gives a job of one phase of so many bytes.
func start(t *testing.T, all int64, prior Prior) *job {
	j := &job{t: t, now: base, all: all}
	j.e = New([]Phase{{Name: "copy", Unit: "bytes", Total: all, Weight: 1, Data: true, Bounded: true}}, prior, j.now)
	j.e.Report(j.now, Report{Total: all})
	return j
}

// run lets the helper work for so many seconds at bytes per second, reporting
// once a second.
func (j *job) run(seconds int, rate int64) {
	for range seconds {
		j.now = j.now.Add(time.Second)
		j.done += rate
		j.e.Report(j.now, Report{Done: j.done, Total: j.all})
	}
}

func (j *job) wait(d time.Duration) { j.now = j.now.Add(d) }

func (j *job) near(what string, got *float64, want, tolerance float64) {
	j.t.Helper()
	if got == nil || math.Abs(*got-want) > tolerance*want {
		j.t.Errorf("%s is %v, want about %v", what, text(got), want)
	}
}

func text(f *float64) any {
	if f == nil {
		return nil
	}
	return *f
}

func TestSteadyJobIsPredicted(t *testing.T) {
	j := start(t, 1000, Prior{})
	j.run(20, 10)
	est := j.e.Estimate(j.now)
	j.near("remaining", est.RemainingS, 80, 0.01)
	if want := j.now.Add(80 * time.Second); est.End.Sub(want).Abs() > time.Second {
		t.Errorf("end is %v, want %v", est.End, want)
	}
	if !est.EndEarly.Before(*est.End) || !est.EndLate.After(*est.End) {
		t.Errorf("end %v is not within %v to %v", est.End, est.EndEarly, est.EndLate)
	}
	p := j.e.Progress(j.now)
	if p.RateBytes != 10 || p.Done != 200 || p.Total != 1000 || *p.Percent != 20 || !p.Bounded || p.Unit != "bytes" {
		t.Errorf("progress is %+v", p)
	}
}

func TestNothingIsPredictedFromNothing(t *testing.T) {
	j := start(t, 1000, Prior{})
	if est := j.e.Estimate(j.now.Add(time.Second)); est != (record.Estimate{}) {
		t.Errorf("estimate is %+v", est)
	}
}

func TestPriorPredictsBeforeTheFirstByte(t *testing.T) {
	prior := PriorOf(&store.History{Rates: []float64{5, 10, 1000}})
	j := start(t, 1000, prior)
	j.near("remaining", j.e.Estimate(j.now).RemainingS, 100, 0.01)
	j.near("expected", prior.Expect(1000), 100, 0.01)
	j.run(10, 30) // ten seconds weigh as much as the prior
	j.near("remaining", j.e.Estimate(j.now).RemainingS, 700/20.0, 0.02)
	if (Prior{}).Expect(1000) != nil {
		t.Error("something is expected without history")
	}
}

func TestPauseIsNoWork(t *testing.T) {
	j := start(t, 1000, Prior{})
	j.run(20, 10)
	j.e.Pause(j.now)
	j.wait(time.Hour)
	est := j.e.Estimate(j.now)
	j.near("remaining while paused", est.RemainingS, 80, 0.01)
	if est.End != nil || est.StalledSince != nil {
		t.Errorf("a paused job has end %v, stalled since %v", est.End, est.StalledSince)
	}
	if rate := j.e.Progress(j.now).RateBytes; rate != 0 {
		t.Errorf("a paused job shows %d bytes/s", rate)
	}
	j.e.Resume(j.now)
	j.near("remaining after resume", j.e.Estimate(j.now).RemainingS, 80, 0.01)
	j.run(20, 20)
	j.near("remaining at the new speed", j.e.Estimate(j.now).RemainingS, 400/(50/3.0), 0.1)
	if o := j.e.Finish(j.now); math.Abs(o.Rate-15) > 0.5 {
		t.Errorf("the rate learned is %v, want 15", o.Rate)
	}
}

func TestLimitIsKnownAtOnce(t *testing.T) {
	j := start(t, 10000, Prior{})
	j.run(20, 100)
	limit := int64(10)
	j.e.Limit(j.now, &limit)
	j.near("remaining", j.e.Estimate(j.now).RemainingS, 800, 0.01)
	j.run(20, 10)
	j.near("remaining", j.e.Estimate(j.now).RemainingS, 780, 0.01)
	j.e.Limit(j.now, nil)
	j.near("remaining without limit", j.e.Estimate(j.now).RemainingS, 78, 0.01)
}

// At a byte per second a TiB takes longer than a clock can tell.
func TestEndBeyondTheHorizonIsNone(t *testing.T) {
	j := start(t, 16<<40, Prior{})
	j.run(3, 1<<20)
	one := int64(1)
	j.e.Limit(j.now, &one)
	est := j.e.Estimate(j.now)
	j.near("remaining", est.RemainingS, 16<<40, 0.01)
	if est.End != nil || est.EndEarly != nil || est.EndLate != nil || est.StalledSince != nil {
		t.Errorf("it ends %v, between %v and %v", est.End, est.EndEarly, est.EndLate)
	}
	for seconds, told := range map[float64]bool{60: true, horizon.Seconds(): true, horizon.Seconds() + 1: false, math.Inf(1): false, math.NaN(): false} {
		if at := After(j.now, seconds); told != (at != nil) {
			t.Errorf("in %v seconds it is %v", seconds, at)
		}
	}
}

func TestStalledJobHasNoEnd(t *testing.T) {
	j := start(t, 1000, Prior{})
	j.run(20, 10)
	last := j.now
	j.wait(4 * time.Second)
	if est := j.e.Estimate(j.now); est.StalledSince != nil {
		t.Error("stalled after 4 s")
	}
	j.wait(3 * time.Second)
	est := j.e.Estimate(j.now)
	if est.StalledSince == nil || !est.StalledSince.Equal(last) {
		t.Fatalf("stalled since %v, want %v", est.StalledSince, last)
	}
	if est.End != nil || est.RemainingS != nil || est.EndEarly != nil || est.EndLate != nil {
		t.Errorf("after 7 s of silence the estimate is %+v", est)
	}
	j.run(5, 10)
	est = j.e.Estimate(j.now)
	j.near("remaining after the stall", est.RemainingS, 75, 0.2)
	if est.StalledSince != nil {
		t.Error("still stalled")
	}
}

func TestRareReportsAreNoStall(t *testing.T) {
	j := start(t, 10000, Prior{})
	for range 5 {
		j.wait(20 * time.Second)
		j.done += 200
		j.e.Report(j.now, Report{Done: j.done, Total: j.all})
	}
	j.near("remaining", j.e.Estimate(j.now).RemainingS, 900, 0.02)
	j.wait(60 * time.Second)
	if since := j.e.Estimate(j.now).StalledSince; since != nil {
		t.Errorf("stalled since %v although it reports every 20 s", since)
	}
	j.wait(60 * time.Second)
	if j.e.Estimate(j.now).StalledSince == nil {
		t.Error("not stalled after six usual gaps")
	}
}

func TestPublishedEndKeepsStill(t *testing.T) {
	j := start(t, 100000, Prior{})
	j.run(60, 100)
	first := *j.e.Estimate(j.now).End
	moves := 0
	for i := range 200 {
		j.run(1, 99+int64(i%3))
		if end := *j.e.Estimate(j.now).End; !end.Equal(first) {
			first = end
			moves++
		}
	}
	if moves > 2 {
		t.Errorf("the end was published anew %d times for a steady job", moves)
	}
	j.run(60, 50)
	if end := *j.e.Estimate(j.now).End; end.Equal(first) {
		t.Error("the end did not follow a job at half its speed")
	}
}

func TestResumedCopyIsNotTakenForASpeed(t *testing.T) {
	j := &job{t: t, now: base, all: 1000, done: 900}
	j.e = New([]Phase{{Unit: "bytes", Total: 1000, Weight: 1, Data: true, Bounded: true}}, Prior{}, j.now)
	j.wait(time.Second)
	j.e.Report(j.now, Report{Done: 900, Total: 1000}) // from its checkpoint
	if est := j.e.Estimate(j.now.Add(time.Millisecond)); est.RemainingS != nil {
		t.Errorf("remaining is %v", *est.RemainingS)
	}
	j.run(5, 1)
	j.near("remaining", j.e.Estimate(j.now).RemainingS, 95, 0.02)
}

func threePhases() []Phase {
	return []Phase{
		{Name: "scan", Unit: "items", Total: 10, Weight: 1, Bounded: true},
		{Name: "copy", Unit: "bytes", Total: 1000, Weight: 8, Data: true, Bounded: true},
		{Name: "flush", Unit: "bytes", Weight: 1, Bounded: true},
	}
}

func TestPhasesCountByWeight(t *testing.T) {
	now := base
	e := New(threePhases(), Prior{}, now)
	e.Report(now, Report{Phase: 0, Total: 10})
	now = now.Add(10 * time.Second)
	e.Report(now, Report{Phase: 0, Done: 10, Total: 10})
	if p := e.Progress(now); *p.Percent != 10 || p.Unit != "bytes" || p.Done != 0 || p.Total != 1000 {
		t.Errorf("after the scan: %+v", p)
	}
	e.Phase(now, 1)
	if est := e.Estimate(now); est.RemainingS == nil || math.Abs(*est.RemainingS-90) > 1 {
		t.Errorf("remaining after the scan is %v, want 90 by the weights", text(est.RemainingS))
	}
	e.Report(now, Report{Phase: 1, Total: 1000})
	now = now.Add(20 * time.Second)
	e.Report(now, Report{Phase: 1, Done: 500, Total: 1000})
	if p := e.Progress(now); *p.Percent != 50 || p.Done != 500 {
		t.Errorf("half way: %+v", p)
	}
	now = now.Add(20 * time.Second)
	e.Phase(now, 2)
	if p := e.Progress(now); *p.Percent != 90 || p.Done != 500 {
		t.Errorf("in the flush: %+v", p)
	}
}

func TestAllWorkDoneIsNotTheEnd(t *testing.T) {
	j := start(t, 1000, Prior{})
	j.run(100, 10)
	if p := *j.e.Progress(j.now).Percent; p != 99.9 {
		t.Errorf("percent before the result is %v", p)
	}
}

func TestUnboundedWorkHasNoPercentAndNoEnd(t *testing.T) {
	now := base
	e := New([]Phase{{Unit: "bytes", Total: 100, Weight: 1}, {Unit: "bytes", Total: 100, Weight: 1, Data: true, Bounded: true}}, Prior{Rate: 10}, now)
	e.Report(now, Report{Total: 100})
	now = now.Add(5 * time.Second)
	e.Report(now, Report{Done: 50, Total: 120})
	if p, est := e.Progress(now), e.Estimate(now); p.Percent != nil || p.Bounded || est.RemainingS != nil {
		t.Errorf("unbounded: %+v %+v", p, est)
	}
	e.Phase(now, 1)
	if p := e.Progress(now); p.Percent == nil || !p.Bounded {
		t.Errorf("in the bounded phase: %+v", p)
	}
}

func TestOddPlans(t *testing.T) {
	for name, plan := range map[string][]Phase{
		"empty":      nil,
		"no weights": {{Bounded: true}, {Bounded: true}},
		"bad weights": {{Weight: math.NaN(), Bounded: true}, {Weight: math.Inf(1), Bounded: true}, {Weight: -1, Bounded: true},
			{Weight: 1, Total: 10, Bounded: true}},
	} {
		e := New(plan, Prior{Rate: 1}, base)
		e.Report(base, Report{Phase: len(plan) + 3})
		e.Report(base, Report{Phase: -1})
		e.Report(base.Add(time.Second), Report{Phase: max(len(plan)-1, 0), Done: -5, Total: -7})
		p := e.Progress(base.Add(2 * time.Second))
		if p.Percent != nil && !(*p.Percent >= 0 && *p.Percent <= 99.9) {
			t.Errorf("%s: percent is %v", name, *p.Percent)
		}
		e.Estimate(base.Add(2 * time.Second))
	}
}

// TestPromises plays whatever helpers and users may do, and checks what people
// rely on: the percentage never falls nor says 100, times are finite and in
// order, nothing panics.
func TestPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := base
		e := New(threePhases(), Prior{Rate: rapid.SampledFrom([]float64{0, 50}).Draw(t, "prior")}, now)
		shown := 0.0
		amount := rapid.Int64Range(-10, 1200)
		t.Repeat(map[string]func(*rapid.T){
			"report": func(t *rapid.T) {
				e.Report(now, Report{
					Phase: rapid.IntRange(-1, 4).Draw(t, "phase"), Done: amount.Draw(t, "done"), Total: amount.Draw(t, "total"),
					Work: amount.Draw(t, "work"), WorkAll: amount.Draw(t, "all"),
				})
			},
			"phase":  func(t *rapid.T) { e.Phase(now, rapid.IntRange(-1, 4).Draw(t, "phase")) },
			"pause":  func(*rapid.T) { e.Pause(now) },
			"resume": func(*rapid.T) { e.Resume(now) },
			"limit": func(t *rapid.T) {
				limit := rapid.Ptr(rapid.Int64Range(0, 100), true).Draw(t, "limit")
				e.Limit(now, limit)
			},
			"": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.Int64Range(0, int64(time.Minute)).Draw(t, "passes")))
				p, est := e.Progress(now), e.Estimate(now)
				if p.Percent == nil || !(*p.Percent >= shown) || *p.Percent > 99.9 || p.RateBytes < 0 {
					t.Fatalf("after %v: %v %+v", shown, text(p.Percent), p)
				}
				shown = *p.Percent
				if left := est.RemainingS; left != nil && (!(*left >= 0) || math.IsInf(*left, 0)) {
					t.Fatalf("remaining %v", *left)
				}
				if est.End != nil && (est.EndEarly.After(*est.EndLate) || est.RemainingS == nil) {
					t.Fatalf("estimate %+v", est)
				}
			},
		})
		e.Finish(now)
	})
}

// What a helper repeats was true a moment ago, and all that it did since would
// seem to be done by the next report.
func TestRateIsNotCountedFromAReportThatIsBehind(t *testing.T) {
	const rate = 1000
	j := start(t, 1_000_000, Prior{})
	j.e = New([]Phase{{Name: "copy", Unit: "bytes", Total: j.all, Weight: 1, Data: true, Bounded: true}}, Prior{}, j.now)
	j.e.Report(j.now, Report{Done: 500_000, Total: j.all, Behind: true})
	if p := j.e.Progress(j.now); *p.Percent != 50 || p.RateBytes != 0 {
		t.Errorf("at once: %v %%, %d/s", *p.Percent, p.RateBytes)
	}
	j.wait(80 * time.Millisecond)
	j.done = 500_000 + rate*200/1000 // of the 200 ms since what was repeated
	j.e.Report(j.now, Report{Done: j.done, Total: j.all})
	for range 3 {
		j.run(1, rate)
		if p := j.e.Progress(j.now); math.Abs(float64(p.RateBytes)-rate) > 0.01*rate {
			t.Errorf("rate is %d, want %d", p.RateBytes, rate)
		}
	}
	if got := j.e.Finish(j.now).Rate; math.Abs(got-rate) > 0.01*rate {
		t.Errorf("learned %v, want %d", got, rate)
	}
}

// What is shown to be moved is what the percent is of: a hole costs next to nothing.
func TestRateCountsNoHoles(t *testing.T) {
	const rate, hole = 1000, 1_000_000
	j := start(t, 10*hole, Prior{})
	all := int64(5*rate + hole/256)
	for i := range int64(5) {
		j.now = j.now.Add(time.Second)
		j.done += rate
		if i == 2 {
			j.done += hole
		}
		work := (i + 1) * rate
		if i >= 2 {
			work += hole / 256
		}
		j.e.Report(j.now, Report{Done: j.done, Total: j.all, Work: work, WorkAll: all})
	}
	if p := j.e.Progress(j.now); p.RateBytes > 3*rate || p.RateBytes < rate/2 {
		t.Errorf("the rate is %d, of %d and a hole", p.RateBytes, rate)
	}
	if s, ok := j.e.Reach(j.now, 2*hole); !ok || s > 20 {
		t.Errorf("a place behind further holes is reached in %v s, %v", s, ok)
	}
}

// Nothing moves in a stall: no rate is shown from its beginning on.
func TestStalledJobHasNoRate(t *testing.T) {
	j := start(t, 1000, Prior{})
	j.run(10, 10)
	j.wait(stallAfter*time.Second - time.Millisecond)
	if rate := j.e.Progress(j.now).RateBytes; rate == 0 {
		t.Error("it has no rate before it is stalled")
	}
	j.wait(2 * time.Millisecond)
	if rate := j.e.Progress(j.now).RateBytes; rate != 0 || j.e.Estimate(j.now).StalledSince == nil {
		t.Errorf("it shows %d bytes/s when it is stalled", rate)
	}
	if _, ok := j.e.Reach(j.now, 500); ok {
		t.Error("it reaches something while nothing moves")
	}
	j.run(1, 10)
	if rate := j.e.Progress(j.now).RateBytes; rate == 0 {
		t.Error("it has no rate when it goes on")
	}
}
