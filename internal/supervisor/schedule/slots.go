package supervisor

import (
	"slices"

	"storaged/internal/record"
)

// resource is what running jobs share and what limits are set on.
type resource struct {
	of    scope
	name  string // of the pool; major:minor of the device; of all, the class that is counted
	short bool   // the places for short work
}

type scope int

const (
	ofAll scope = iota
	ofPool
	ofDevice
)

// needsOf are the resources of which a job takes one place each, however many
// of its objects lie there: both ends of a copy count, on one disk once. Jobs
// of class normal are short, or move no data. They are counted apart from
// async ones and only in all, so that a stop or a delete does not wait for
// hours. Short async work is counted apart from the rest: it has as many places
// of its own.
func (q *queue) needsOf(p *place) []resource {
	needs := []resource{{ofAll, string(p.class), p.short()}}
	if p.class != record.Async {
		return needs
	}
	for _, pool := range p.pools {
		needs = append(needs, resource{ofPool, pool, p.short()})
		for _, device := range q.devices[pool] {
			if r := (resource{ofDevice, device, p.short()}); !slices.Contains(needs, r) {
				needs = append(needs, r)
			}
		}
	}
	return needs
}

// What short work is at most, as its request bounds it and not as anybody
// estimates it.
const (
	// shortBytes is what the slowest disk moves in a few seconds.
	shortBytes = 64 << 20
	// shortSeconds is how long a limit of the job's own may make that take.
	shortSeconds = 10
)

// short reports whether a job is short work.
func (p *place) short() bool {
	return p.class == record.Async && p.moves > 0 && p.moves <= shortBytes && (p.limit == 0 || p.moves/p.limit <= shortSeconds)
}

// recount takes over needs that may have changed. Jobs that run are counted
// where they are now; those that are too many there run on, and nobody joins
// them before there is a place.
func (q *queue) recount(p *place) {
	if p.standing == isRunning {
		q.count(p, -1)
	}
	p.needs = q.needsOf(p)
	if p.standing == isRunning {
		q.count(p, 1)
	}
}

// places is how many jobs may run on a resource at once; 0 or less is no limit.
func places(l record.Limits, r resource) int {
	exceptions, limit := map[string]int(nil), l.Running
	switch r.of {
	case ofPool:
		exceptions, limit = l.PoolRunning, l.RunningPool
	case ofDevice:
		exceptions, limit = l.DeviceRunning, l.RunningDevice
	}
	if n, ok := exceptions[r.name]; ok {
		return n
	}
	return limit
}

// rate is the cap on what the jobs on a resource move together, in bytes per
// second; 0 is none.
func rate(l record.Limits, r resource) int64 {
	switch r.of {
	case ofPool:
		return l.PoolRates[r.name]
	case ofDevice:
		return l.DeviceRates[r.name]
	default:
		return deref(l.Rate)
	}
}

// rated reports whether there is any cap on rates.
func rated(l record.Limits) bool { return l.Rate != nil || len(l.PoolRates)+len(l.DeviceRates) > 0 }

// count notes that a job takes its places, or with -1 that it leaves them.
func (q *queue) count(p *place, n int) {
	for _, r := range p.needs {
		if q.used[r] += n; q.used[r] == 0 {
			delete(q.used, r)
		}
	}
}

// lacks gives a resource of which a job finds no place.
func (q *queue) lacks(p *place) (resource, bool) {
	for _, r := range p.needs {
		if limit := places(q.limits, r); limit > 0 && q.used[r] >= limit {
			return r, true
		}
	}
	return resource{}, false
}

// setDevices notes on which physical devices a pool lies.
func (q *queue) setDevices(pool string, devices []string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if slices.Equal(q.devices[pool], devices) {
		return
	}
	q.devices[pool] = slices.Clone(devices)
	if len(devices) == 0 {
		delete(q.devices, pool)
	}
	for _, p := range q.places {
		if !slices.Contains(p.pools, pool) {
			continue
		}
		q.recount(p)
	}
	q.share()
	q.fill()
}
