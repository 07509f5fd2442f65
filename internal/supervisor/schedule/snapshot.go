package schedule

import (
	"slices"
	"time"

	"storaged/internal/record"
	"storaged/internal/supervisor/locks"
)

// Snapshot is a schedule at one moment, for whoever checks that it keeps its
// rules.
type Snapshot struct {
	Limits record.Limits
	Halted bool // nothing is granted: closed or drained
	Jobs   map[string]Standing
	Ready  []int64        // who waits for a slot, in order
	Taken  map[string]int // slots: "all CLASS", "pool NAME", "device MAJOR:MINOR"; short work apart, as "… short"
}

// Standing is where a job stands.
type Standing struct {
	Job
	State  State
	Since  time.Time
	Locks  []record.Object // that it holds
	Blocks []locks.Block   // all that is in the way of its locks
	Share  int64
	Paused bool
}

// Snapshot gives the schedule as it is now.
func (s *Schedule) Snapshot() Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := Snapshot{Limits: s.limits, Halted: s.halted(), Jobs: map[string]Standing{}, Taken: map[string]int{}}
	for r, n := range s.used {
		out.Taken[r.String()] = n
	}
	for _, e := range s.ready {
		out.Ready = append(out.Ready, e.job.Number)
	}
	for id, e := range s.entries {
		out.Jobs[id] = Standing{
			Job: e.job, State: e.state, Since: e.since, Share: e.share, Paused: e.paused,
			Locks: slices.Clone(s.locks.Held(id)), Blocks: s.locks.Blockers(id, locks.All),
		}
	}
	return out
}

func (r resource) String() string {
	name := []string{"all ", "pool ", "device "}[r.of] + r.name
	if r.short {
		name += " short"
	}
	return name
}
