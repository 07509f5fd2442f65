package estimate

import "math"

// ewma is a rate per second, smoothed twice by exponential weights over time
// (so irregular samples are fine) and debiased for the time before the first
// sample, as in indicatif. Seconds older than span weigh one tenth.
type ewma struct {
	span        float64 // seconds
	start, last float64 // clock
	once, twice float64
}

func (w *ewma) reset(now float64) { *w = ewma{span: w.span, start: now, last: now} }

func (w *ewma) weight(age float64) float64 { return math.Pow(0.1, age/w.span) }

// add takes amount, done since the last add or reset.
func (w *ewma) add(now, amount float64) {
	dt := now - w.last
	if dt <= 0 {
		return
	}
	keep := w.weight(dt)
	w.once = w.once*keep + amount/dt*(1-keep)
	w.twice = w.twice*keep + w.once/(1-w.weight(now-w.start))*(1-keep)
	w.last = now
}

// rate is the estimate at now: as if nothing had been done since the last add.
func (w *ewma) rate(now float64) float64 {
	total := 1 - w.weight(now-w.start)
	if total <= 0 {
		return 0
	}
	keep := w.weight(now - w.last)
	once := w.once * keep / total
	return (w.twice*keep + once*(1-keep)) / total
}
