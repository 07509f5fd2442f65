package estimate

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// A trace is a job of 100 GiB as the world would let it run; the estimator
// sees one report a second. Speeds are MB/s.
type trace struct {
	name  string
	noise float64 // standard deviation of each second's speed
	// speed at a moment of the run, without noise.
	speed func(*run) float64
	// event is called once a second, before the report; it may tell the
	// estimator what a daemon would know.
	event func(*run)
	// work gives the units of the bytes between two offsets; nil: as bytes.
	work func(r *run, from, to float64) float64
	// scored narrows the moments that count; nil: all.
	scored func(*run) bool
	most   float64 // bound on the mean error
}

const jobMB = 102400.0

// run is one trace being played.
type run struct {
	trace
	rng   *rand.Rand
	est   *Estimator
	now   time.Time
	t     float64 // seconds
	done  float64 // MB
	units float64
	all   float64   // units of the whole job
	ends  []float64 // of the extents of a sparse image, MB; data and holes in turn
	limit float64   // in force
	stall float64   // seconds of it left
}

// point is a prediction to be scored when the end is known.
type point struct{ t, raw, told float64 }

var base = time.Date(2025, 3, 1, 0, 0, 0, 0, time.UTC)

const tick = 0.01 // seconds; short enough for an extent to end within it

// play runs the trace to its end and gives the mean |ln(predicted/actual)| of
// the prediction and of the published end.
func (r *run) play() (raw, told float64) {
	plan := []Phase{{Name: "copy", Unit: "bytes", Total: int64(jobMB) << 20, Weight: 1, Data: true, Bounded: true}}
	r.now, r.all = base, r.unitsOf(0, jobMB)
	r.est = New(plan, Prior{}, r.now)
	r.report()
	var points []point
	for r.done < jobMB {
		if r.event != nil {
			r.event(r)
		}
		r.second()
		if p, ok := r.look(); ok {
			points = append(points, p)
		}
	}
	return r.score(points)
}

// second lets a second pass and reports.
func (r *run) second() {
	noise := max(1+r.noise*r.rng.NormFloat64(), 0.1)
	for i := 0; i < int(1/tick) && r.done < jobMB; i++ {
		next := min(r.done+r.speed(r)*noise*tick, r.boundary())
		r.units += r.unitsOf(r.done, next)
		r.done = next
		r.t += tick
	}
	r.now = base.Add(time.Duration(r.t * float64(time.Second)))
	r.report()
}

// boundary is where the present extent ends: one tick has one speed.
func (r *run) boundary() float64 {
	for _, end := range r.ends {
		if r.done < end {
			return min(end, jobMB)
		}
	}
	return jobMB
}

func (r *run) unitsOf(from, to float64) float64 {
	if r.work == nil {
		return to - from
	}
	return r.work(r, from, to)
}

func (r *run) report() {
	const scale = 1 << 20
	r.est.Report(r.now, Report{
		Done: int64(r.done * scale), Total: int64(jobMB) << 20,
		Work: int64(r.units * scale), WorkAll: int64(r.all * scale),
	})
}

func (r *run) look() (point, bool) {
	told := r.est.Estimate(r.now).RemainingS
	raw, ok := r.est.remaining(r.now)
	if !ok || told == nil || r.scored != nil && !r.scored(r) {
		return point{}, false
	}
	return point{r.t, raw, *told}, true
}

// score leaves out the first and last five seconds; a single error counts at
// most 3.
func (r *run) score(points []point) (raw, told float64) {
	n := 0.0
	for _, p := range points {
		actual := r.t - p.t
		if p.t < 5 || actual < 5 {
			continue
		}
		n++
		raw += min(math.Abs(math.Log(p.raw/actual)), 3)
		told += min(math.Abs(math.Log(p.told/actual)), 3)
	}
	return raw / n, told / n
}

// sparse draws extents, data and holes in turn, 2 GiB long in the mean.
func (r *run) sparse() {
	for at := 0.0; at < jobMB; {
		at += 2048 * r.rng.ExpFloat64()
		r.ends = append(r.ends, at)
	}
}

func (r *run) inHole(at float64) bool {
	if r.ends == nil {
		r.sparse()
	}
	for i, end := range r.ends {
		if at < end {
			return i%2 == 1
		}
	}
	return false
}

func sparseSpeed(r *run) float64 {
	if r.inHole(r.done) {
		return 20000
	}
	return 150
}

// holesWeigh counts holes with a share of the weight of data.
func holesWeigh(share float64) func(*run, float64, float64) float64 {
	return func(r *run, from, to float64) float64 {
		sum, start := 0.0, 0.0
		r.inHole(0)
		for i, end := range r.ends {
			overlap := max(min(to, end)-max(from, start), 0)
			if i%2 == 1 {
				overlap *= share
			}
			sum, start = sum+overlap, end
		}
		return sum
	}
}

func between(a, b, inside, outside float64) func(*run) float64 {
	return func(r *run) float64 {
		if r.done >= a*jobMB && r.done < b*jobMB {
			return inside
		}
		return outside
	}
}

func steadyUntil(mb, first, then float64) func(*run) float64 {
	return between(0, mb/jobMB, first, then)
}

// stallOnce stops the run for 60 s at 40 %.
func stallOnce(r *run) float64 {
	if r.done >= 0.4*jobMB && r.stall == 0 {
		r.stall = 60
	}
	if r.stall > tick {
		r.stall -= tick
		return 0
	}
	return 200
}

func halve(r *run) {
	if r.limit == 0 && r.done >= jobMB/2 {
		r.limit = 50
		limit := int64(50 << 20)
		r.est.Limit(r.now, &limit)
	}
}

func limited(r *run) float64 {
	if r.limit > 0 {
		return r.limit
	}
	return 200
}

// The bounds are what the best of nine known smoothers reached on the same
// traces, and what counting work instead of bytes, resetting at a changed limit
// and holding the end in a stall improve on it.
var traces = []trace{
	{name: "steady", noise: 0.1, speed: steadyUntil(0, 0, 200), most: 0.015},
	{name: "cache burst", noise: 0.1, speed: steadyUntil(8192, 2000, 150), most: 0.205},
	{name: "slc cliff", noise: 0.1, speed: steadyUntil(30720, 1000, 250), most: 0.385},
	{name: "hdd zones", noise: 0.1, speed: func(r *run) float64 { return 200 - 100*r.done/jobMB }, most: 0.225},
	{name: "limit change", noise: 0.05, speed: limited, event: halve, most: 0.305},
	{name: "after limit change", noise: 0.05, speed: limited, event: halve, scored: func(r *run) bool { return r.limit > 0 }, most: 0.01},
	{name: "stall", noise: 0.1, speed: stallOnce, most: 0.18},
	{name: "neighbour", noise: 0.1, speed: between(0.3, 0.6, 100, 200), most: 0.315},
	{name: "write-back bursts", noise: 0.2, speed: func(r *run) float64 {
		if math.Mod(r.t, 10) < 5 {
			return 400
		}
		return 2
	}, most: 0.085},
	{name: "sparse, holes weigh nothing", noise: 0.05, speed: sparseSpeed, work: holesWeigh(0), most: 0.02},
	{name: "sparse, holes at their weight", noise: 0.05, speed: sparseSpeed, work: holesWeigh(0.0075), most: 0.015},
	{name: "sparse, holes as data", noise: 0.05, speed: sparseSpeed, most: 0.46},
	{name: "mixed", noise: 0.15, speed: func(r *run) float64 {
		if r.inHole(r.done) {
			return 20000
		}
		return limited(r) * between(0.1, 0.3, 0.5, 1)(r)
	}, event: halve, work: holesWeigh(0.0075), most: 0.305},
}

const seeds = 8

func TestErrorOnTraces(t *testing.T) {
	for _, tr := range traces {
		t.Run(tr.name, func(t *testing.T) {
			var raw, told float64
			for seed := range seeds {
				r := &run{trace: tr, rng: rand.New(rand.NewPCG(uint64(seed), 7))}
				a, b := r.play()
				raw, told = raw+a/seeds, told+b/seeds
			}
			t.Logf("mean error %.3f, as published %.3f (bound %.3f)", raw, told, tr.most)
			if !(raw <= tr.most) {
				t.Errorf("mean error is %.3f, bound %.3f", raw, tr.most)
			}
			if !(told <= tr.most+endMoveShare) {
				t.Errorf("published with a mean error of %.3f, bound %.3f", told, tr.most+endMoveShare)
			}
		})
	}
}

// A short job is over before much is learned of it: the prior must not outweigh
// what is seen. It takes 2 s, reports five times a second, and ends with a
// commit that takes as long as its weight says. The bounds are those of a
// prediction by a steady rate (no prior, a true one), and what a prior that is
// wrong by 4 leaves after the first few reports.
var shortJobs = []struct {
	name  string
	prior float64 // as a multiple of the true rate; 0: none
	most  float64
}{
	{"no prior", 0, 0.02},
	{"true prior", 1, 0.02},
	{"prior too fast by 4", 4, 0.25},
	{"prior too slow by 4", 0.25, 0.55},
}

func TestErrorOnShortJobs(t *testing.T) {
	for _, s := range shortJobs {
		t.Run(s.name, func(t *testing.T) {
			raw, told := playShort(s.prior)
			t.Logf("mean error %.3f, as published %.3f (bound %.3f)", raw, told, s.most)
			if !(raw <= s.most) || !(told <= s.most+0.1) {
				t.Errorf("mean error is %.3f, as published %.3f, bound %.3f", raw, told, s.most)
			}
		})
	}
}

// playShort gives the mean errors of prediction and published end.
func playShort(prior float64) (raw, told float64) {
	const all, steps, step = 1 << 30, 10, 200 * time.Millisecond
	const commit = 0.05 // of the time of the copy
	speed := all / (steps * step.Seconds())
	e := New([]Phase{
		{Name: "copy", Unit: "bytes", Total: all, Weight: 1, Data: true, Bounded: true},
		{Name: "commit", Total: 1, Weight: commit, Bounded: true},
	}, Prior{Rate: prior * speed}, base)
	e.Report(base, Report{Total: all})
	end := steps * step.Seconds() * (1 + commit)
	n := 0.0
	for i := 1; i < steps; i++ {
		now := base.Add(time.Duration(i) * step)
		e.Report(now, Report{Done: int64(i) * all / steps, Total: all})
		left, ok := e.remaining(now)
		published := e.Estimate(now).RemainingS
		if !ok || published == nil {
			return math.Inf(1), math.Inf(1)
		}
		actual := end - now.Sub(base).Seconds()
		raw += min(math.Abs(math.Log(left/actual)), 3)
		told += min(math.Abs(math.Log(*published/actual)), 3)
		n++
	}
	return raw / n, told / n
}
