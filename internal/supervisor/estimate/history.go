package estimate

import (
	"math"
	"slices"
	"time"

	"storaged/internal/store"
)

const (
	deciles = store.HistoryDeciles

	// samples is how many past jobs of a key are remembered: enough for a p10,
	// few enough to follow a changed disk.
	samples = 32

	// heldShare of its limit is what a job reaches at least that the limit holds
	// back. Its rate is that of the limit and says nothing of the storage.
	heldShare = 0.9

	// rateSeconds is how long the data phase lasts at least, and knownMoves how
	// often it moves, for its rate to be learned. What it costs to begin and to
	// end, whatever the size, is small against that; of a shorter job it may be
	// most, and to one of another size that is no guide.
	rateSeconds = 1

	// On fast storage so many bytes will do, if they took a while: an allocation
	// or a reflink takes any number at once.
	rateBytes       = 64 << 20
	rateByteSeconds = 0.1

	// fewest is how many past errors make a band of their own.
	fewest = 5
)

// The band of a job of which too little is known: half to one and a half of
// the predicted time.
const (
	defaultEarly = 0.5
	defaultLate  = 1.5
)

// Prior is what earlier jobs of the same kind teach about the next one.
type Prior struct {
	Rate  float64 // median work units per second of the data phase; 0: not known
	bands [deciles]struct{ early, late float64 }
}

// PriorOf draws the prior from a history; nil is none.
func PriorOf(h *store.History) Prior {
	var p Prior
	for i := range p.bands {
		p.bands[i].early, p.bands[i].late = defaultEarly, defaultLate
	}
	if h == nil {
		return p
	}
	p.Rate = quantile(h.Rates, 0.5)
	for i, errors := range h.Errors {
		if len(errors) >= fewest {
			// The predicted end lies in its band, whatever the errors were.
			p.bands[i].early = min(math.Exp(quantile(errors, 0.1)), 1)
			p.bands[i].late = max(math.Exp(quantile(errors, 0.9)), 1)
		}
	}
	return p
}

// band gives the factors on the remaining time between which the end lies in
// eight of ten cases, in the given decile of the work.
func (p Prior) band(decile int) (early, late float64) {
	b := p.bands[min(max(decile, 0), deciles-1)]
	if b.late == 0 {
		return defaultEarly, defaultLate // the zero Prior
	}
	return b.early, b.late
}

// Expect predicts the seconds that so many work units take, before a job has
// begun; nil without history.
func (p Prior) Expect(work int64) *float64 {
	if p.Rate <= 0 {
		return nil
	}
	seconds := float64(work) / p.Rate
	return &seconds
}

// Outcome is what a job that succeeded teaches.
type Outcome struct {
	Rate   float64           // work units per second of the data phase; 0: too short to be measured, or held back by a limit
	Errors [deciles]*float64 // ln(actual/predicted remaining time) at each decile; nil: no prediction
}

// Finish gives what is to be learned from a job that succeeded now.
func (e *Estimator) Finish(now time.Time) Outcome {
	var o Outcome
	l := &e.life
	if rate := l.rate(); l.limit == 0 || rate < heldShare*l.limit {
		o.Rate = rate
	}
	for i, f := range l.forecast {
		if actual := e.ran(now) - f.ran; f.remaining > 0 && actual > 0 {
			err := math.Log(actual / f.remaining)
			o.Errors[i] = &err
		}
	}
	return o
}

// rate is that of the data phase, 0 of one too short to measure.
func (l *life) rate() float64 {
	seconds, work := l.data[1]-l.data[0], l.dataWork[1]-l.dataWork[0]
	steady := seconds >= rateSeconds && l.dataMoves >= knownMoves
	large := seconds >= rateByteSeconds && work >= rateBytes && l.dataBytes
	if !steady && !large {
		return 0
	}
	return work / seconds
}

// learn notes what Finish needs.
func (e *Estimator) learn(now time.Time, r Report) {
	l, clock := &e.life, e.clock(now)
	if !l.began {
		l.began, l.clock, l.at = true, clock, e.at
	}
	if p := e.phases[r.Phase]; p.Data {
		work, _ := r.work()
		l.dataBytes = p.Unit == "bytes"
		if !l.dataSeen {
			l.dataSeen, l.data[0], l.dataWork = true, clock, [2]float64{work, work}
		}
		if work > l.dataWork[1] {
			l.dataMoves++
		}
		l.data[1], l.dataWork[1] = clock, work
		if e.limit != nil && (l.limit == 0 || float64(*e.limit) < l.limit) {
			l.limit = float64(*e.limit)
		}
	}
	if e.limit == nil || e.rate(now) < heldShare*e.ceiling() {
		e.free = e.rate(now)
	}
	decile := min(int(deciles*e.at/e.before(len(e.phases))), deciles-1)
	if rest, ok := e.remaining(now); ok && l.forecast[decile].remaining == 0 {
		l.forecast[decile] = forecast{e.ran(now), rest}
	}
}

// Learn adds an outcome to a history, forgetting the oldest.
func Learn(h *store.History, o Outcome) {
	if o.Rate > 0 {
		h.Rates = remember(h.Rates, o.Rate)
	}
	for i, err := range o.Errors {
		if err != nil {
			h.Errors[i] = remember(h.Errors[i], *err)
		}
	}
}

func remember(values []float64, v float64) []float64 {
	values = append(values, v)
	return slices.Clone(values[max(len(values)-samples, 0):])
}

// quantile interpolates between the two nearest values; 0 for none.
func quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	at := q * float64(len(sorted)-1)
	low := int(at)
	high := min(low+1, len(sorted)-1)
	return sorted[low] + (at-float64(low))*(sorted[high]-sorted[low])
}
