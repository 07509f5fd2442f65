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
// their way. Who wants a pool itself (to stop it, say) is no visitor of it.
// Closing it lets nobody else in; who is inside stays until it releases, and
// the holder goes on when the last has released. Windows do not change the order:
// a visitor still waits for earlier askers in its way.
package locks

import (
	"cmp"
	"fmt"
	"iter"
	"math"
	"slices"

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
	// Position is where the asker stands among those that wait for the asked
	// object, from 1.
	Position int
	// More is, of the last one named that holds, how many more hold.
	More int
}

// Most bounds how many of those in the way are named, by those who hold and
// those who only asked earlier: of very many, a list costs more than it says.
type Most struct{ Holders, Askers int }

// All names everyone.
var All = Most{math.MaxInt, math.MaxInt}

// Change is what a call made possible for others.
type Change struct {
	Granted []string // jobs that hold their objects now, in order of asking
	Vacated []string // jobs whose closing window the last visitor is gone from
}

// Manager is the lock table. Its methods are not for concurrent use: the
// schedule, which owns it, calls one at a time.
type Manager struct {
	claims  map[string]*claim
	waiting []*claim // in order of asking
	stakes  map[key]*stakes
	members map[string]*stakes // by pool: those in its volumes
	asked   uint64             // claims so far
}

// key is an object without a mode.
type key struct{ pool, volume string }

// stake is one object of a claim.
type stake struct {
	*claim
	object record.Object
}

// stakes are those in an object: of claims that hold, and of those that wait,
// in order of asking. So a long queue is not gone through for its few holders.
type stakes struct{ held, waiting []stake }

// of gives the list that has the stakes of a claim.
func (s *stakes) of(c *claim) *[]stake {
	if c.held {
		return &s.held
	}
	return &s.waiting
}

// before gives the stakes that were there before c: all that are held, or those
// waiting that were asked for earlier.
func (s *stakes) before(c *claim, held bool) []stake {
	switch {
	case s == nil:
		return nil
	case held:
		return s.held
	}
	n, _ := slices.BinarySearchFunc(s.waiting, c.order, func(w stake, order uint64) int { return cmp.Compare(w.order, order) })
	return s.waiting[:n]
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
		stakes:  map[key]*stakes{},
		members: map[string]*stakes{},
	}
}

// Ask grants a now, or lets it wait; who is granted later, the call
// that made it possible says. An id that holds or waits already is a panic.
func (m *Manager) Ask(a Ask) (granted bool) {
	c := m.enter(a)
	if m.grant(c) {
		return true
	}
	m.waiting = append(m.waiting, c)
	return false
}

// Try grants a now, or says what is in its way and forgets it.
func (m *Manager) Try(a Ask, most Most) []Block {
	c := m.enter(a)
	if m.grant(c) {
		return nil
	}
	defer m.leave(c)
	return m.blocks(c, most)
}

// Probe says what Try would, and grants nothing.
func (m *Manager) Probe(a Ask, most Most) []Block {
	c := m.enter(a)
	defer m.leave(c)
	return m.blocks(c, most)
}

// Blockers says what is in the way of a waiting job; nothing for one that
// holds its objects or is unknown.
func (m *Manager) Blockers(id string, most Most) []Block {
	c := m.claims[id]
	if c == nil || c.held {
		return nil
	}
	return m.blocks(c, most)
}

// Release ends the holding or the waiting of a job, and its window. An unknown
// id changes nothing.
func (m *Manager) Release(id string) Change {
	c := m.claims[id]
	if c == nil {
		return Change{}
	}
	m.leave(c)
	return Change{Vacated: m.vacate(c), Granted: m.advance()}
}

// Held gives the objects a job holds, nil if it holds none.
func (m *Manager) Held(id string) []record.Object {
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
	c := m.enter(a)
	var holders, visitors []*claim
	for e := range m.conflicts(c) {
		switch other := e.other.claim; {
		case !other.held:
			// whoever only waits has to go on waiting
		case c.visits(e.asked) && !other.Visits:
			holders = append(holders, other)
		case !c.Visits && other.visits(e.other.object):
			visitors = append(visitors, other)
		default:
			m.leave(c)
			return fmt.Errorf("jobs %q and %q cannot both hold %s (%s) and %s (%s)",
				a.ID, other.ID, e.asked, e.asked.Mode, e.other.object, e.other.object.Mode)
		}
	}
	m.hold(c, holders)
	for _, v := range visitors {
		c.admit(v)
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
	}
	m.add(c)
	return c
}

// add puts the stakes of a claim where they belong.
func (m *Manager) add(c *claim) {
	for _, o := range c.Objects {
		put(m.stakes, key{o.Pool, o.Volume}, stake{c, o})
		if o.Volume != "" {
			put(m.members, o.Pool, stake{c, o})
		}
	}
}

func put[K comparable](all map[K]*stakes, at K, s stake) {
	if all[at] == nil {
		all[at] = &stakes{}
	}
	list := all[at].of(s.claim)
	*list = append(*list, s)
}

// remove takes the stakes of a claim out.
func (m *Manager) remove(c *claim) {
	for _, o := range c.Objects {
		strikeOut(m.stakes, key{o.Pool, o.Volume}, c)
		strikeOut(m.members, o.Pool, c)
	}
}

// hold makes c one that holds, and holders those whose windows it is in.
func (m *Manager) hold(c *claim, holders []*claim) {
	m.remove(c)
	c.held = true
	m.add(c)
	for _, h := range holders {
		h.admit(c)
	}
}

// leave takes a claim out of the table.
func (m *Manager) leave(c *claim) {
	delete(m.claims, c.ID)
	if !c.held {
		m.waiting = slices.DeleteFunc(m.waiting, func(w *claim) bool { return w == c })
	}
	m.remove(c)
}

// strikeOut removes the stakes of c.
func strikeOut[K comparable](all map[K]*stakes, from K, c *claim) {
	at := all[from]
	if at == nil {
		return
	}
	list := at.of(c)
	*list = slices.DeleteFunc(*list, func(s stake) bool { return s.claim == c })
	if len(at.held)+len(at.waiting) == 0 {
		delete(all, from)
	}
}

// conflict is another claim's stake that a claim cannot have beside its own,
// without a window.
type conflict struct {
	asked record.Object
	other stake
}

// conflicts gives what meets c and was there first: all that is held, then
// what was asked for earlier; pools before volumes, since fewer stakes lie on
// them. This, less the windows, is what grants and what explains.
func (m *Manager) conflicts(c *claim) iter.Seq[conflict] {
	return func(yield func(conflict) bool) {
		for _, held := range []bool{true, false} {
			for _, o := range c.Objects {
				near := m.members[o.Pool]
				if o.Volume != "" {
					near = m.stakes[key{o.Pool, ""}]
				}
				if !c.conflictsWith(o, near.before(c, held), yield) || !c.conflictsWith(o, m.stakes[key{o.Pool, o.Volume}].before(c, held), yield) {
					return
				}
			}
		}
	}
}

// conflictsWith yields those of stakes that c cannot have beside its object asked.
func (c *claim) conflictsWith(asked record.Object, stakes []stake, yield func(conflict) bool) bool {
	for _, s := range stakes {
		if s.claim != c && !Compatible(s.object, asked) && !yield(conflict{asked, s}) {
			return false
		}
	}
	return true
}

// lets reports whether e is no obstacle because of an open window.
func (e conflict) lets(c *claim) bool {
	return c.visits(e.asked) && e.other.held && e.other.open && slices.Contains(e.other.mask, e.asked.Mode)
}

// visits reports whether windows are for c and its object o.
func (c *claim) visits(o record.Object) bool { return c.Visits && o.Volume != "" }

// grant makes c hold its objects if nothing is in its way.
func (m *Manager) grant(c *claim) bool {
	var holders []*claim
	for e := range m.conflicts(c) {
		if !e.lets(c) {
			return false
		}
		holders = append(holders, e.other.claim)
	}
	m.hold(c, holders)
	return true
}

// blocks explains why c is not granted: by those who hold, then by those who
// asked earlier.
func (m *Manager) blocks(c *claim, most Most) []Block {
	var out []Block
	holders, askers := 0, 0
	for e := range m.conflicts(c) {
		switch {
		case e.lets(c):
		case !e.other.held && askers == most.Askers:
			return out
		case !e.other.held:
			askers++
			out = append(out, m.block(c, e))
		case holders == most.Holders:
			out[holders-1].More++
		default:
			holders++
			out = append(out, m.block(c, e))
		}
	}
	return out
}

func (m *Manager) block(c *claim, e conflict) Block {
	return Block{
		Asked: e.asked, Held: e.other.object, Holder: e.other.ID, Waiting: !e.other.held, Position: m.position(c, e.asked),
	}
}

// position is where c stands among those that wait for o.
func (m *Manager) position(c *claim, o record.Object) int {
	n := 1
	last := (*claim)(nil)
	for _, s := range m.stakes[key{o.Pool, o.Volume}].before(c, false) {
		if s.claim != last {
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
