package notify

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"storaged/internal/record"
)

// Setup is what a Notifier needs.
type Setup struct {
	Dir     string // what waits is kept in it
	Host    string // of which is told
	Version string // of this program
	Log     hclog.Logger
	Pause   time.Duration // before a receiver is told again the first time; 0: a second
}

// Notifier hands notices to all receivers. It is safe for concurrent use.
type Notifier struct {
	setup Setup

	changing sync.Mutex // held by Apply, Close
	mu       sync.Mutex // guards runners
	runners  map[string]*runner
}

// New makes a Notifier without receivers.
func New(setup Setup) *Notifier { return &Notifier{setup: setup, runners: map[string]*runner{}} }

// Apply has these receivers be told, which are complete, and no others. What waits for one
// that has changed is told as it is now; what waits for one that is gone is dropped.
func (n *Notifier) Apply(receivers []Receiver) {
	n.changing.Lock()
	defer n.changing.Unlock()
	now := map[string]*runner{}
	for _, r := range receivers {
		now[r.Name] = n.runner(Mission{r, n.setup.Version})
	}
	n.mu.Lock()
	before := n.runners
	n.runners = now
	n.mu.Unlock()
	for name, r := range before {
		if now[name] == nil {
			r.stop()
		}
	}
	n.dropOthers(slices.Collect(maps.Keys(now)))
}

// runner gives the one that does this, which may be at work.
func (n *Notifier) runner(m Mission) *runner {
	n.mu.Lock()
	before := n.runners[m.Name]
	n.mu.Unlock()
	if before != nil {
		if before.is(m) {
			return before
		}
		before.stop()
		return begin(m, before.queue, n.setup)
	}
	q, err := openQueue(filepath.Join(n.setup.Dir, m.Name+suffix))
	if err != nil {
		n.setup.Log.Error("a receiver of notices begins anew", "receiver", m.Name, "error", err)
	}
	return begin(m, q, n.setup)
}

// suffix is that of the files of queues.
const suffix = ".json"

// dropOthers removes the files of receivers that are not these.
func (n *Notifier) dropOthers(names []string) {
	entries, err := os.ReadDir(n.setup.Dir)
	if err != nil && !os.IsNotExist(err) {
		n.setup.Log.Warn("cannot see what waits for receivers of notices that are gone", "error", err)
	}
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), suffix); ok && !slices.Contains(names, name) {
			if err := os.Remove(filepath.Join(n.setup.Dir, e.Name())); err != nil {
				n.setup.Log.Warn("cannot drop what waits for a receiver of notices that is gone", "receiver", name, "error", err)
			}
		}
	}
}

// Tell hands a notice to those it is for. It waits for nobody.
func (n *Notifier) Tell(notice record.Notice) {
	for _, r := range n.all() {
		r.offer(Event{Notice: notice, Host: n.setup.Host})
	}
}

// Replay hands out what may have been told to nobody when an earlier daemon died. since
// gives notices of what has happened since then; those that came before are known by
// their ids.
func (n *Notifier) Replay(since func(time.Time) ([]record.Notice, error)) {
	for _, r := range n.all() {
		from := r.queue.from()
		if oldest := time.Now().Add(-keepFor); from.Before(oldest) {
			from = oldest
		}
		notices, err := since(from)
		if err != nil {
			n.setup.Log.Error("what a receiver of notices was not told before the start is not known", "receiver", r.mission.Name, "error", err)
		}
		for _, notice := range notices {
			r.offer(Event{Notice: notice, Host: n.setup.Host})
		}
		if err == nil {
			r.queue.caughtUp()
		}
	}
}

func (n *Notifier) all() []*runner {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Collect(maps.Values(n.runners))
}

// Complaints says which receivers are not told, and why.
func (n *Notifier) Complaints() (all []string) {
	for _, r := range n.all() {
		if c := r.complaint(); c != "" {
			all = append(all, c)
		}
	}
	slices.Sort(all)
	return all
}

// Close ends all processes. What waits is saved, for the next daemon.
func (n *Notifier) Close() {
	n.changing.Lock()
	defer n.changing.Unlock()
	n.mu.Lock()
	before := n.runners
	n.runners = map[string]*runner{}
	n.mu.Unlock()
	for _, r := range before {
		r.cancel() // all at once
	}
	for _, r := range before {
		r.stop()
	}
}
