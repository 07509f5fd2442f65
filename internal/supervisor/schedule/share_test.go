package schedule

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func capOf(rate int64, limits ...int64) rateCap {
	c := rateCap{rate: rate}
	for i, l := range limits {
		c.jobs = append(c.jobs, &Entry{job: Job{Number: int64(i), Limit: l}})
	}
	return c
}

// partsOf gives the parts in the order of the limits.
func (c rateCap) partsOf() []int64 {
	jobs := slices.Clone(c.jobs)
	parts := c.divide()
	var out []int64
	for _, p := range jobs {
		out = append(out, parts[p])
	}
	return out
}

func TestCapIsDivided(t *testing.T) {
	for _, c := range []struct {
		rate   int64
		limits []int64
		want   []int64
	}{
		{100, []int64{0}, []int64{100}},
		{100, []int64{0, 0}, []int64{50, 50}},
		{100, []int64{0, 0, 0}, []int64{33, 33, 34}},
		{100, []int64{0, 10}, []int64{90, 50}}, // the second goes at 10
		{100, []int64{20, 10, 0}, []int64{45, 33, 70}},
		{2, []int64{0, 0, 0}, []int64{1, 1, 1}},
		{100, nil, nil},
	} {
		if got := capOf(c.rate, c.limits...).partsOf(); !slices.Equal(got, c.want) {
			t.Errorf("%d among limits %v: %v, want %v", c.rate, c.limits, got, c.want)
		}
	}
}

// The jobs together never exceed the cap, and use all of it if they can.
func TestCapIsHeldAndUsed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limits := rapid.SliceOfN(rapid.Int64Range(0, 1000), 1, 20).Draw(t, "limits")
		rate := rapid.Int64Range(int64(len(limits)), 10_000).Draw(t, "rate")
		var sum, could int64
		for i, part := range capOf(rate, limits...).partsOf() {
			own := limits[i]
			if own == 0 {
				own = math.MaxInt64 / 100
			}
			sum, could = sum+min(own, part), could+own
		}
		if sum > rate || sum < min(rate, could) {
			t.Fatalf("%d is used as %d by limits %v", rate, sum, limits)
		}
	})
}
