package supervisor

import (
	"cmp"
	"math"
	"slices"

	"storaged/internal/ipc"
	"storaged/internal/record"
)

// Caps on rates hold for all running jobs in all, of one pool or of one device
// together. Each cap is divided among the jobs under it, and a job goes at the
// least of its shares and its own limit. What a job with a lower limit of its
// own leaves goes to the others; a paused job takes no part. Jobs of class
// normal are short, or move no data, and are not counted.

// rateCap is one cap in bytes per second, and the jobs under it.
type rateCap struct {
	rate int64
	jobs []*place
}

// share divides all caps anew and pokes the jobs whose share has changed. It
// is called with q.mu held, whenever the jobs that run, their limits, their
// pauses or the caps have changed.
func (q *queue) share() {
	was := q.shared
	if q.shared = rated(q.limits); !q.shared && !was {
		return
	}
	shares := map[*place]int64{}
	for _, c := range q.caps() {
		for p, part := range c.divide() {
			if old, ok := shares[p]; !ok || part < old {
				shares[p] = part
			}
		}
	}
	for _, p := range q.places {
		if p.paused && q.shared {
			continue // it goes on with its old share until the next division
		}
		p.j.setShare(shares[p])
	}
}

// caps gives the caps in force under which data moves, with the jobs under each.
func (q *queue) caps() map[resource]*rateCap {
	all := map[resource]*rateCap{}
	for _, p := range q.places {
		if p.standing != isRunning || p.class != record.Async || p.paused {
			continue
		}
		for _, r := range p.needs {
			r.short = false // a cap holds for all
			if bound := rate(q.limits, r); bound > 0 {
				if all[r] == nil {
					all[r] = &rateCap{rate: bound}
				}
				all[r].jobs = append(all[r].jobs, p)
			}
		}
	}
	return all
}

// divide gives each job an equal share; what those with lower limits leave is
// divided among the rest. Nobody gets less than one byte per second, which is
// as near to a standstill as a limit comes.
func (c rateCap) divide() map[*place]int64 {
	slices.SortFunc(c.jobs, func(a, b *place) int {
		return cmp.Or(cmp.Compare(ceiling(a), ceiling(b)), cmp.Compare(a.number, b.number))
	})
	parts, left := make(map[*place]int64, len(c.jobs)), c.rate
	for i, p := range c.jobs {
		parts[p] = max(1, left/int64(len(c.jobs)-i))
		left -= min(parts[p], ceiling(p))
	}
	return parts
}

// ceiling is the job's own limit; without one it takes what it gets.
func ceiling(p *place) int64 {
	if p.limit > 0 {
		return p.limit
	}
	return math.MaxInt64
}

// relimit notes a job's own limit, in bytes per second; 0 is none.
func (q *queue) relimit(j *job, rate int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if p := q.places[j.id]; p != nil {
		p.limit = rate
		q.recount(p)
		q.share()
		q.fill()
	}
}

// rest notes that a running job is paused, or goes on.
func (q *queue) rest(j *job, paused bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if p := q.places[j.id]; p != nil {
		p.paused = paused
		q.share()
	}
}

// setShare gives the job its part of the caps, 0 for none, and has its
// goroutine tell the helper.
func (j *job) setShare(rate int64) {
	if j.part.Swap(rate) == rate {
		return
	}
	select {
	case j.reshare <- struct{}{}:
	default: // it is about to look
	}
}

// rate is what the job may go at, in bytes per second; 0 is no limit.
func (j *job) rate() int64 {
	own, part := deref(j.rec.Limit), j.part.Load()
	if own == 0 || part == 0 {
		return max(own, part)
	}
	return min(own, part)
}

// tellRate tells the helper what it may go at, when that has changed.
func (j *job) tellRate() {
	if j.h == nil || !j.rec.Go || j.rec.Undo {
		return // GO will tell; what is undone is not slowed down
	}
	if rate := j.rate(); rate != j.run.rate {
		j.run.rate = rate
		j.say(ipc.Limit{Rate: rate})
	}
}
