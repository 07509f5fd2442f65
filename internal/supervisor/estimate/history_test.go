package estimate

import (
	"math"
	"testing"
	"time"

	"storaged/internal/store"
)

func TestHistoryLearnsRateAndErrors(t *testing.T) {
	h := &store.History{Key: "clone"}
	for range 6 {
		j := start(t, 2000, PriorOf(h))
		j.run(50, 20) // and then at half the speed: predicted too early
		j.run(100, 10)
		Learn(h, j.e.Finish(j.now))
	}
	p := PriorOf(h)
	if want := 2000.0 / 150; math.Abs(p.Rate-want) > 0.01*want {
		t.Errorf("rate is %v, want %v", p.Rate, want)
	}
	early, late := p.band(4)
	if !(late > 1.5) || !(early <= 1) {
		t.Errorf("band before the slow half is %v to %v", early, late)
	}
	if _, late := p.band(9); late > 1.2 {
		t.Errorf("band at the end reaches to %v", late)
	}
}

func TestBandOfTooFewJobsIsTheDefault(t *testing.T) {
	h := &store.History{}
	for range fewest - 1 {
		h.Errors[3] = append(h.Errors[3], 0)
	}
	for name, p := range map[string]Prior{"few": PriorOf(h), "none": PriorOf(nil), "zero": {}} {
		if early, late := p.band(3); early != 0.5 || late != 1.5 {
			t.Errorf("%s: band is %v to %v", name, early, late)
		}
	}
	h.Errors[3] = append(h.Errors[3], 0)
	if early, late := PriorOf(h).band(3); early != 1 || late != 1 {
		t.Errorf("band of %d exact predictions is %v to %v", fewest, early, late)
	}
}

func TestHistoryForgetsTheOldest(t *testing.T) {
	h := &store.History{}
	for i := range 100 {
		Learn(h, Outcome{Rate: float64(i + 1)})
	}
	if len(h.Rates) != samples || h.Rates[0] != 69 || h.Rates[samples-1] != 100 {
		t.Errorf("rates are %v", h.Rates)
	}
}

func TestJobThatMeasuredNothingTeachesNothing(t *testing.T) {
	j := start(t, 1000, Prior{})
	h := &store.History{}
	Learn(h, j.e.Finish(j.now))
	if len(h.Rates) != 0 || len(h.Errors[0]) != 0 {
		t.Errorf("learned %+v", h)
	}
}

// What a job costs whatever its size is no rate: small ones would have a large
// one take minutes that takes a moment.
func TestShortJobTeachesNoRate(t *testing.T) {
	h := &store.History{}
	for name, c := range map[string]struct {
		all   int64
		after []time.Duration // equal parts of all are done, one after another
	}{
		"a hundred bytes":           {100, []time.Duration{20 * time.Millisecond}},
		"many small moves":          {1 << 20, []time.Duration{100 * time.Millisecond, time.Millisecond, time.Millisecond, 400 * time.Millisecond}},
		"a slow start":              {1 << 20, []time.Duration{3 * time.Second, time.Millisecond}},
		"a large one in an instant": {1 << 40, []time.Duration{5 * time.Millisecond, 5 * time.Millisecond}},
	} {
		j := start(t, c.all, Prior{})
		for i, after := range c.after {
			j.wait(after)
			j.e.Report(j.now, Report{Done: c.all * int64(i+1) / int64(len(c.after)), Total: c.all})
		}
		if o := j.e.Finish(j.now); o.Rate != 0 {
			t.Errorf("%s: learned %v per second", name, o.Rate)
		}
		Learn(h, j.e.Finish(j.now))
	}
	if s := PriorOf(h).Expect(512 << 20); s != nil {
		t.Errorf("512 MiB are expected to take %v s", *s)
	}
}

func TestLargeJobTeachesItsRateSoon(t *testing.T) {
	j := start(t, 256<<20, Prior{})
	j.wait(250 * time.Millisecond)
	j.e.Report(j.now, Report{Done: j.all, Total: j.all})
	if o := j.e.Finish(j.now); math.Abs(o.Rate-1<<30) > 1 {
		t.Errorf("learned %v per second of 1 GiB/s", o.Rate)
	}
}

// A limit is no property of the storage: jobs without one are not to be
// expected to be as slow.
func TestRateThatALimitHeldBackIsNotLearned(t *testing.T) {
	low, high := int64(10), int64(500)
	for name, c := range map[string]struct {
		limit *int64
		rate  int64
		later int64 // seconds until the limit, 0: from the start
		want  float64
	}{
		"none":            {rate: 100, want: 100},
		"held":            {limit: &low, rate: 10},
		"not held":        {limit: &high, rate: 100, want: 100},
		"held from later": {limit: &low, rate: 10, later: 5},
	} {
		j := start(t, 10_000, Prior{})
		j.run(int(c.later), 100)
		j.e.Limit(j.now, c.limit)
		j.e.Report(j.now, Report{Done: j.done, Total: j.all})
		j.run(40, c.rate)
		if got := j.e.Finish(j.now).Rate; math.Abs(got-c.want) > 1 {
			t.Errorf("%s: learned %v, want %v", name, got, c.want)
		}
	}
}

func TestQuantile(t *testing.T) {
	values := []float64{4, 1, 3, 2}
	for q, want := range map[float64]float64{0: 1, 0.5: 2.5, 1: 4} {
		if got := quantile(values, q); got != want {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
	if values[0] != 4 {
		t.Error("the values were sorted in place")
	}
}
