package schedule

import (
	"slices"

	"storaged/internal/record"
)

// resource is what running jobs share and what limits are set on.
type resource struct {
	of    scope
	name  string // of the pool; major:minor of the device; of all, the class that is counted
	short bool   // the slots for short work
}

type scope int

const (
	ofAll scope = iota
	ofPool
	ofDevice
)

// needsOf are the resources of which a job takes one slot each, however many
// of its objects lie there: both ends of a copy count, on one disk once. Jobs
// of class normal are short, or move no data. They are counted apart from
// async ones and only in all, so that a stop or a delete does not wait for
// hours. Short async work is counted apart from the rest: it has as many slots
// of its own.
func (s *Schedule) needsOf(e *Entry) []resource {
	needs := []resource{{ofAll, string(e.job.Class), e.job.Short()}}
	if e.job.Class != record.Async {
		return needs
	}
	for _, pool := range e.pools {
		needs = append(needs, resource{ofPool, pool, e.job.Short()})
		for _, device := range s.devices[pool] {
			if r := (resource{ofDevice, device, e.job.Short()}); !slices.Contains(needs, r) {
				needs = append(needs, r)
			}
		}
	}
	return needs
}

// What short work is at most, as its request bounds it and not as anybody
// estimates it.
const (
	// ShortBytes is what the slowest disk moves in a few seconds.
	ShortBytes = 64 << 20
	// shortSeconds is how long a limit of the job's own may make that take.
	shortSeconds = 10
)

// Short reports whether a job is short work.
func (j *Job) Short() bool {
	return j.Class == record.Async && j.Moves > 0 && j.Moves <= ShortBytes && (j.Limit == 0 || j.Moves/j.Limit <= shortSeconds)
}

// Long counts the jobs at work that may take long: the async ones that are not short.
func (s *Schedule) Long() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used[resource{ofAll, string(record.Async), false}]
}

// recount takes over needs that may have changed. Jobs that run are counted
// where they are now; those that are too many there run on, and nobody joins
// them before there is a slot.
func (s *Schedule) recount(e *Entry) {
	if e.state == Running {
		s.count(e, -1)
	}
	e.needs = s.needsOf(e)
	if e.state == Running {
		s.count(e, 1)
	}
}

// slots is how many jobs may run on a resource at once; 0 or less is no limit.
func slots(l record.Limits, r resource) int {
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

// count notes that a job takes its slots, or with -1 that it gives them back.
func (s *Schedule) count(e *Entry, n int) {
	for _, r := range e.needs {
		if s.used[r] += n; s.used[r] == 0 {
			delete(s.used, r)
		}
	}
}

// lacks gives a resource of which there is no slot for a job.
func (s *Schedule) lacks(e *Entry) (resource, bool) {
	for _, r := range e.needs {
		if limit := slots(s.limits, r); limit > 0 && s.used[r] >= limit {
			return r, true
		}
	}
	return resource{}, false
}

// SetDevices notes on which physical devices (major:minor) a pool lies.
func (s *Schedule) SetDevices(pool string, devices ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.Equal(s.devices[pool], devices) {
		return
	}
	s.devices[pool] = slices.Clone(devices)
	if len(devices) == 0 {
		delete(s.devices, pool)
	}
	for _, e := range s.entries {
		if slices.Contains(e.pools, pool) {
			s.recount(e)
		}
	}
	s.divide()
	s.fill()
}
