package schedule

import (
	"cmp"
	"math"
	"slices"

	"storaged/internal/record"
)

// Caps on rates hold for all running jobs in all, of one pool or of one device
// together. Each cap is divided among the jobs under it, and a job goes at the
// least of its shares and its own limit. What a job with a lower limit of its
// own does not use goes to the others; a paused job takes no part. Jobs of class
// normal are short, or move no data, and are not counted.

// rateCap is one cap in bytes per second, and the jobs under it.
type rateCap struct {
	rate int64
	jobs []*Entry
}

// divide divides all caps anew and notifies the jobs whose share has changed. It
// is called with mu held, whenever the jobs that run, their limits, their pauses
// or the caps have changed.
func (s *Schedule) divide() {
	was := s.capped
	if s.capped = s.limits.Rate != nil || len(s.limits.PoolRates)+len(s.limits.DeviceRates) > 0; !s.capped && !was {
		return
	}
	shares := map[*Entry]int64{}
	for _, c := range s.caps() {
		for e, part := range c.divide() {
			if old, ok := shares[e]; !ok || part < old {
				shares[e] = part
			}
		}
	}
	for _, e := range s.entries {
		if e.paused && s.capped {
			continue // it goes on with its old share until the next division
		}
		if e.share != shares[e] {
			e.share = shares[e]
			notify(e.Reshare)
		}
	}
}

// caps gives the caps in force under which data moves, with the jobs under each.
func (s *Schedule) caps() map[resource]*rateCap {
	all := map[resource]*rateCap{}
	for _, e := range s.entries {
		if e.state != Running || e.job.Class != record.Async || e.paused {
			continue
		}
		for _, r := range e.needs {
			r.short = false // a cap holds for all
			if bound := capOn(s.limits, r); bound > 0 {
				if all[r] == nil {
					all[r] = &rateCap{rate: bound}
				}
				all[r].jobs = append(all[r].jobs, e)
			}
		}
	}
	return all
}

// capOn is the cap on what the jobs on a resource move together, in bytes per
// second; 0 is none.
func capOn(l record.Limits, r resource) int64 {
	switch {
	case r.of == ofPool:
		return l.PoolRates[r.name]
	case r.of == ofDevice:
		return l.DeviceRates[r.name]
	case l.Rate != nil:
		return *l.Rate
	}
	return 0
}

// divide gives each job an equal share; what those with lower limits do not use
// is divided among the rest. Nobody gets less than one byte per second, which is
// as near to a standstill as a limit comes.
func (c rateCap) divide() map[*Entry]int64 {
	slices.SortFunc(c.jobs, func(a, b *Entry) int {
		return cmp.Or(cmp.Compare(a.ceiling(), b.ceiling()), cmp.Compare(a.job.Number, b.job.Number))
	})
	parts, rest := make(map[*Entry]int64, len(c.jobs)), c.rate
	for i, e := range c.jobs {
		parts[e] = max(1, rest/int64(len(c.jobs)-i))
		rest -= min(parts[e], e.ceiling())
	}
	return parts
}

// ceiling is the job's own limit; without one it takes what it gets.
func (e *Entry) ceiling() int64 {
	if e.job.Limit > 0 {
		return e.job.Limit
	}
	return math.MaxInt64
}

// Rate is what the job may go at, in bytes per second: the lesser of its own
// limit and its share of the caps. 0 is no limit.
func (e *Entry) Rate() int64 {
	e.s.mu.Lock()
	defer e.s.mu.Unlock()
	if e.share == 0 {
		return e.job.Limit
	}
	return min(e.share, e.ceiling())
}

// SetLimit gives a job another limit of its own, in bytes per second; 0 is none.
func (e *Entry) SetLimit(rate int64) {
	s := e.s
	s.mu.Lock()
	defer s.mu.Unlock()
	e.job.Limit = rate
	if e.state != Out {
		s.recount(e)
		s.divide()
		s.fill()
	}
}

// SetPaused notes that a running job is paused, or goes on.
func (e *Entry) SetPaused(paused bool) {
	e.s.mu.Lock()
	defer e.s.mu.Unlock()
	e.paused = paused
	e.s.divide()
}
