package helper

import (
	"math"
	"time"
)

// rateWindow is the time constant of the rate shown: long enough to be calm,
// short enough to follow a changed limit within seconds.
const rateWindow = 15 * time.Second

// rate is a time-based, debiased moving average of how fast a count grows. The
// zero rate is ready for use; it is reset with every phase, as no phase tells
// of another.
type rate struct {
	started bool
	last    time.Time
	count   int64
	sum     float64 // of units per second, weighted
	weight  float64 // of what is in sum, below 1
}

// see tells the count at a time. Times do not go back.
func (r *rate) see(now time.Time, count int64) {
	if !r.started {
		r.started, r.last, r.count = true, now, count
		return
	}
	dt := now.Sub(r.last).Seconds()
	if dt <= 0 {
		return
	}
	r.decay(dt)
	w := 1 - keep(dt)
	r.sum += w * float64(count-r.count) / dt
	r.weight += w
	r.last, r.count = now, count
}

// at gives units per second. Time without news counts as standing still, so
// that a stall shows.
func (r *rate) at(now time.Time) float64 {
	if r.weight == 0 {
		return 0
	}
	dt := max(now.Sub(r.last).Seconds(), 0)
	k := keep(dt)
	return r.sum * k / (r.weight*k + 1 - k)
}

func (r *rate) decay(dt float64) {
	k := keep(dt)
	r.sum *= k
	r.weight *= k
}

// keep is the share of the past that still counts after dt seconds.
func keep(dt float64) float64 { return math.Exp(-dt / rateWindow.Seconds()) }
