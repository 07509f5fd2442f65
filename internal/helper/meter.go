package helper

import (
	"slices"
	"sync"
	"time"

	"storaged/internal/diskio"
	"storaged/internal/ipc"
)

// maxUnfinished is the most percent shown before the result is known.
const maxUnfinished = 99.9

// meter knows the plan of a run and how far it is. It is safe for concurrent
// use: the task plans and begins phases, whoever reports reads.
type meter struct {
	pacer *diskio.Pacer // counts the bytes

	mu      sync.Mutex
	plan    []ipc.PlanPhase
	phase   ipc.Phase
	begun   time.Time // the current phase; zero before the first and after the last
	spent   []ipc.Spent
	holes   int64 // of the phases before the current one
	percent float64
	rate    rate
}

// reading is what a meter shows at one moment.
type reading struct {
	Plan     []ipc.PlanPhase
	Phase    ipc.Phase
	Progress ipc.Progress
	Begun    bool    // a phase has begun
	Percent  float64 // weighted over the whole run; never falls
	Rate     float64 // work units per second, lately
}

// setPlan tells the phases, before the first begins.
func (m *meter) setPlan(p []ipc.PlanPhase) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.plan = p
}

// find gives the index of the phase of that name, -1 without one.
func (m *meter) find(name string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.IndexFunc(m.plan, func(p ipc.PlanPhase) bool { return p.Name == name })
}

// begin ends the current phase and begins another.
func (m *meter) begin(index int) ipc.Phase {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.endPhase()
	m.phase = ipc.Phase{Index: index, NoReturn: m.phase.NoReturn}
	m.pacer.StartPhase(index)
	m.begun = time.Now()
	m.rate = rate{}
	return m.phase
}

// seal marks the current phase as one that no cancel undoes.
func (m *meter) seal() ipc.Phase {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.phase.NoReturn = true
	return m.phase
}

// finish ends the last phase and gives the counts of the whole run.
func (m *meter) finish() (read, written, holes int64, spent []ipc.Spent) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.endPhase()
	c := m.pacer.Counts()
	return c.Read, c.Written, m.holes, m.spent
}

// endPhase needs mu held.
func (m *meter) endPhase() {
	if m.begun.IsZero() {
		return
	}
	m.holes += m.pacer.Counts().Holes
	m.spent = append(m.spent, ipc.Spent{Name: m.plan[m.phase.Index].Name, NS: int64(time.Since(m.begun))})
	m.begun = time.Time{}
}

func (m *meter) read() reading {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.progress()
	now := time.Now()
	m.rate.see(now, p.Work)
	m.percent = max(m.percent, m.weigh(p))
	return reading{
		Plan:     m.plan,
		Phase:    m.phase,
		Progress: p,
		Begun:    !m.begun.IsZero(),
		Percent:  m.percent,
		Rate:     m.rate.at(now),
	}
}

// progress needs mu held.
func (m *meter) progress() ipc.Progress {
	c := m.pacer.Counts()
	p := ipc.Progress{
		Phase: m.phase.Index, Done: c.Done, Durable: c.Durable, Total: c.Total,
		Work: c.Work, WorkAll: c.WorkAll, Holes: c.Holes, Read: c.Read, Written: c.Written,
		Allocated: c.Allocated,
	}
	if p.Total == 0 && m.phase.Index < len(m.plan) {
		p.Total = m.plan[m.phase.Index].Total
	}
	return p
}

// weigh gives the percent of weighted work done. It needs mu held.
func (m *meter) weigh(now ipc.Progress) float64 {
	var all, done float64
	for i, p := range m.plan {
		all += p.Weight
		switch {
		case m.begun.IsZero():
		case i < m.phase.Index:
			done += p.Weight
		case i == m.phase.Index:
			done += p.Weight * fraction(now)
		}
	}
	if all == 0 {
		return 0
	}
	return min(100*done/all, maxUnfinished)
}

// fraction is the part of a phase that is done, 0 to 1. Work units know that a
// hole is cheaper than data.
func fraction(p ipc.Progress) float64 {
	done, all := p.Durable, p.Total
	if p.WorkAll > 0 {
		done, all = p.Work, p.WorkAll
	}
	if all <= 0 {
		return 0
	}
	return min(max(float64(done)/float64(all), 0), 1)
}

// forget makes the rate be learned anew: what moved before tells nothing of
// what comes.
func (m *meter) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rate = rate{}
}
