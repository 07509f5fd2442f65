// Package locks decides which jobs may hold which pools and volumes at the
// same time. It keeps no clock, starts no goroutine and does no I/O.
//
// A job asks for all its objects at once and gets all or waits with none, so
// there is no deadlock. It is in the way of another when the two tables of
// matrix.go say so for one of the objects of each. A job is granted when
// nobody who holds, and nobody who asked earlier and still waits, is in its
// way: those who conflict are served in the order in which they asked, so
// nobody starves, and who conflicts with nobody passes everyone.
//
// A holder that runs for long may open a window: while it is open, visitors of
// volumes whose mode the window's mask names do not count the holder as in
// their way. Who wants a pool as a whole (to stop it, say) is no visitor of it.
// Closing it lets nobody else in; who is inside stays until it releases, and
// the holder goes on when the last has left. Windows do not change the order:
// a visitor still waits for earlier askers in its way.
package locks

import (
	"fmt"
	"iter"
	"slices"
	"sync"

	"storaged/internal/record"
)

// Ask is what a job wants to hold.
type Ask struct {
	ID      string // of the job
	Objects []record.Object
	Visits  bool // it is short, and may come in through open windows
}

// Block is one reason why an Ask is not granted.
type Block struct {
	Asked   record.Object // of the asker
	Held    record.Object // what is in its way
	Holder  string        // the job that has it
	Waiting bool          // the holder waits for it itself, and asked earlier
	// Position is the asker's place among those that wait for the asked
	// object, from 1.
	Position int
}

// Change is what a call made possible for others.
type Change struct {
	Granted []string // jobs that hold their objects now, in order of asking
	Vacated []string // jobs whose closing window has been left by the last visitor
}

// Manager is the lock table. Its methods are safe for concurrent use.
type Manager struct {
	mu      sync.Mutex
	claims  map[string]*claim
	waiting []*claim           // in order of asking
	stakes  map[place][]stake  // of holders and waiters, in order of asking
	members map[string][]stake // by pool: the stakes in its volumes
	asked   uint64             // claims so far
}

// place is an object without a mode.
type place struct{ pool, volume string }

// stake is one object of a claim.
type stake struct {
	*claim
	object record.Object
}

// claim is an Ask, waiting or held.
type claim struct {
	Ask
	order   uint64
	held    bool
	open    bool // the window, for the modes of mask
	closing bool // the window is shut, with visitors still inside
	mask    []record.Mode
	onCall  []record.Mode // for which a window opens when it is called for
	inside  []*claim      // visitors in the window
}

// New gives an empty table.
func New() *Manager {
	return &Manager{
		claims:  map[string]*claim{},
		stakes:  map[place][]stake{},
		members: map[string][]stake{},
	}
}

// Ask grants a now, or lets it wait; who is granted later is told by the call
// that made it possible. An id that holds or waits already is a panic.
func (m *Manager) Ask(a Ask) (granted bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.enter(a)
	if m.grant(c) {
		return true
	}
	m.waiting = append(m.waiting, c)
	return false
}

// Try grants a now, or says what is in its way and forgets it.
func (m *Manager) Try(a Ask) []Block {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.enter(a)
	if m.grant(c) {
		return nil
	}
	defer m.leave(c)
	return m.blocks(c)
}

// Probe says what Try would, and grants nothing.
func (m *Manager) Probe(a Ask) []Block {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.enter(a)
	defer m.leave(c)
	return m.blocks(c)
}

// Blockers says what is in the way of a waiting job; nothing for one that
// holds its objects or is unknown.
func (m *Manager) Blockers(id string) []Block {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.claims[id]
	if c == nil || c.held {
		return nil
	}
	return m.blocks(c)
}

// Release ends the holding or the waiting of a job, and its window. An unknown
// id changes nothing.
func (m *Manager) Release(id string) Change {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.claims[id]
	if c == nil {
		return Change{}
	}
	m.leave(c)
	return Change{Vacated: m.vacate(c), Granted: m.advance()}
}

// Held gives the objects a job holds, nil if it holds none.
func (m *Manager) Held(id string) []record.Object {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c := m.claims[id]; c != nil && c.held {
		return slices.Clone(c.Objects)
	}
	return nil
}

// Restore makes a hold its objects, as it did before the daemon went away. No
// window is open afterwards; where a visitor and a job that is none have what
// only a window allows, the visitor is taken to be inside. Any other conflict
// is an error and changes nothing.
func (m *Manager) Restore(a Ask) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.enter(a)
	var hosts, guests []*claim
	for e := range m.encounters(c) {
		switch other := e.other.claim; {
		case !other.held:
			// whoever only waits has to go on waiting
		case c.visits(e.asked) && !other.Visits:
			hosts = append(hosts, other)
		case !c.Visits && other.visits(e.other.object):
			guests = append(guests, other)
		default:
			m.leave(c)
			return fmt.Errorf("jobs %q and %q cannot both hold %s (%s) and %s (%s)",
				a.ID, other.ID, e.asked, e.asked.Mode, e.other.object, e.other.object.Mode)
		}
	}
	c.held = true
	for _, h := range hosts {
		h.admit(c)
	}
	for _, g := range guests {
		c.admit(g)
	}
	return nil
}

// enter registers a claim, behind all others.
func (m *Manager) enter(a Ask) *claim {
	if m.claims[a.ID] != nil {
		panic(fmt.Sprintf("internal error: job %q asks for locks twice", a.ID))
	}
	m.asked++
	c := &claim{Ask: a, order: m.asked}
	c.Objects = slices.Clone(a.Objects)
	m.claims[c.ID] = c
	for _, o := range c.Objects {
		index(o.Mode) // panics here rather than at the first meeting
		p := place{o.Pool, o.Volume}
		m.stakes[p] = append(m.stakes[p], stake{c, o})
		if o.Volume != "" {
			m.members[o.Pool] = append(m.members[o.Pool], stake{c, o})
		}
	}
	return c
}

// leave takes a claim out of the table.
func (m *Manager) leave(c *claim) {
	delete(m.claims, c.ID)
	if !c.held {
		m.waiting = slices.DeleteFunc(m.waiting, func(w *claim) bool { return w == c })
	}
	for _, o := range c.Objects {
		strike(m.stakes, place{o.Pool, o.Volume}, c)
		strike(m.members, o.Pool, c)
	}
}

// strike removes the stakes of c under key.
func strike[K comparable](all map[K][]stake, key K, c *claim) {
	left := slices.DeleteFunc(all[key], func(s stake) bool { return s.claim == c })
	if len(left) == 0 {
		delete(all, key)
		return
	}
	all[key] = left
}

// encounter is another claim's stake that a claim cannot have beside its own,
// outside of windows.
type encounter struct {
	asked record.Object
	other stake
}

// encounters gives what meets c and was there first: all that is held, and
// what was asked for earlier; pools before volumes, since fewer stakes lie on
// them. This, less the windows, is what grants and what explains.
func (m *Manager) encounters(c *claim) iter.Seq[encounter] {
	return func(yield func(encounter) bool) {
		for _, o := range c.Objects {
			near := m.members[o.Pool]
			if o.Volume != "" {
				near = m.stakes[place{o.Pool, ""}]
			}
			if !c.meetAll(o, near, yield) || !c.meetAll(o, m.stakes[place{o.Pool, o.Volume}], yield) {
				return
			}
		}
	}
}

// meetAll yields those of stakes that c cannot have beside its object asked.
func (c *claim) meetAll(asked record.Object, stakes []stake, yield func(encounter) bool) bool {
	for _, s := range stakes {
		first := s.held || s.order < c.order
		if s.claim != c && first && !Compatible(s.object, asked) && !yield(encounter{asked, s}) {
			return false
		}
	}
	return true
}

// lets reports whether e is no obstacle because of an open window.
func (e encounter) lets(c *claim) bool {
	return c.visits(e.asked) && e.other.held && e.other.open && slices.Contains(e.other.mask, e.asked.Mode)
}

// visits reports whether windows are for c and its object o.
func (c *claim) visits(o record.Object) bool { return c.Visits && o.Volume != "" }

// grant makes c hold its objects if nothing is in its way.
func (m *Manager) grant(c *claim) bool {
	var hosts []*claim
	for e := range m.encounters(c) {
		if !e.lets(c) {
			return false
		}
		hosts = append(hosts, e.other.claim)
	}
	c.held = true
	for _, h := range hosts {
		h.admit(c)
	}
	return true
}

// blocks explains why c is not granted: by those who hold, then by those who
// asked earlier.
func (m *Manager) blocks(c *claim) []Block {
	var (
		holders, askers []Block
		asked           record.Object
		position        int // of c among those who wait for asked
	)
	for e := range m.encounters(c) {
		if e.lets(c) {
			continue
		}
		list := &holders
		if !e.other.held {
			list = &askers
		}
		if e.asked != asked {
			asked, position = e.asked, m.position(c, e.asked)
		}
		*list = append(*list, Block{
			Asked: e.asked, Held: e.other.object, Holder: e.other.ID, Waiting: !e.other.held, Position: position,
		})
	}
	return append(holders, askers...)
}

func (m *Manager) position(c *claim, o record.Object) int {
	n := 1
	last := (*claim)(nil)
	for _, s := range m.stakes[place{o.Pool, o.Volume}] {
		if !s.held && s.order < c.order && s.claim != last {
			n, last = n+1, s.claim
		}
	}
	return n
}

// advance grants all that can be, in order of asking. One pass is enough:
// whoever waited stays in the same ways when it holds.
func (m *Manager) advance() []string {
	var granted []string
	m.waiting = slices.DeleteFunc(m.waiting, func(c *claim) bool {
		if !m.grant(c) {
			return false
		}
		granted = append(granted, c.ID)
		return true
	})
	return granted
}
