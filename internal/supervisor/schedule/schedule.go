// Package schedule decides which jobs run, at what rate, and says why each
// other waits. It knows neither processes nor records, and does no I/O.
//
// A job waits for its locks first, in the order in which they were asked for
// (package locks), then, holding them, for a slot among the running jobs. A
// running job waits for nothing, so the two steps cannot block each other for
// ever.
//
// Slots are given by priority: a job counts as having come earlier by one ageing
// interval than a job of the next lesser priority that came with it, so the
// order is fixed when it comes, and nobody is passed for longer than that. A job
// for which there is no slot keeps those after it from the slots of pools and
// devices that it waits for.
//
// What a slot is of, is in slots.go; how caps on rates are divided, in share.go;
// what is said of those who wait, in why.go.
package schedule

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"storaged/internal/record"
	"storaged/internal/supervisor/locks"
)

// Schedule is all jobs that have not ended, and the limits. Its methods, and
// those of its entries, may be called from any goroutine.
type Schedule struct {
	ageing time.Duration

	mu      sync.Mutex
	locks   *locks.Manager
	limits  record.Limits
	closed  bool      // nothing is granted any more
	drained time.Time // since when nothing is granted until that is taken back; zero: it is
	entries map[string]*Entry
	ready   []*Entry            // with locks, without a slot; in order
	used    map[resource]int    // slots taken
	devices map[string][]string // by pool
	capped  bool                // there are caps on rates
}

// New gives an empty schedule.
func New(limits record.Limits, ageing time.Duration) *Schedule {
	return &Schedule{
		locks: locks.New(), ageing: ageing, limits: limits,
		entries: map[string]*Entry{}, used: map[resource]int{}, devices: map[string][]string{},
	}
}

// Job is what the schedule goes by.
type Job struct {
	ID       string
	Number   int64 // 0 until it is known
	Kind     record.Kind
	Class    record.Class
	Priority record.Priority
	Objects  []record.Object
	Owner    record.Owner
	Created  time.Time
	Moves    int64   // bytes, at most; 0: nobody knows
	Limit    int64   // the job's own, bytes per second; 0: none
	Outlook  Outlook // nil: nobody knows
}

// Outlook is what is expected of a running job. It is asked with the schedule
// locked.
type Outlook interface {
	ExpectedEnd() *time.Time
	NextWindow(record.Mode) *time.Time
}

// State is where an entry stands.
type State int

const (
	Out       State = iota // it has not entered, or has left
	Held                   // it does not ask: it is paused, or cannot start
	WantsLock              // it has asked for locks
	WantsSlot              // it holds locks
	Running
)

// Entry is one job's.
type Entry struct {
	Granted chan struct{} // one token: locks and a slot are held
	Vacated chan struct{} // one token: the last visitor has left the job's window
	Reshare chan struct{} // one token: Rate may have changed

	s      *Schedule
	job    Job
	pools  []string
	needs  []resource
	state  State
	since  time.Time      // in which it has been
	why    record.Blocker // while it is held
	waited bool           // did not get its locks at once
	share  int64          // of the caps on rates, bytes per second; 0: there is none
	paused bool
}

// NewEntry makes the entry of a job, which has yet to enter.
func (s *Schedule) NewEntry(j Job) *Entry {
	e := &Entry{
		s: s, job: j,
		Granted: make(chan struct{}, 1), Vacated: make(chan struct{}, 1), Reshare: make(chan struct{}, 1),
	}
	for _, o := range j.Objects {
		if !slices.Contains(e.pools, o.Pool) {
			e.pools = append(e.pools, o.Pool)
		}
	}
	return e
}

func (e *Entry) ask() locks.Ask {
	return locks.Ask{ID: e.job.ID, Objects: e.job.Objects, Visits: e.job.Class == record.Normal}
}

// due is the time by which slots are given.
func (e *Entry) due() time.Time { return e.job.Priority.Turn(e.job.Created, e.s.ageing) }

func (e *Entry) become(s State) { e.state, e.since = s, time.Now() }

// Enter lets a job ask for its locks, unless Try gave them to it. A held one
// asks when it is released.
func (e *Entry) Enter(number int64, held bool) {
	s := e.s
	s.mu.Lock()
	defer s.mu.Unlock()
	e.job.Number = number
	e.add()
	switch {
	case held:
		e.hold(Paused)
	case e.state == WantsSlot:
		s.line(e)
	default:
		s.askLocks(e)
	}
	s.fill()
}

func (e *Entry) add() {
	e.needs = e.s.needsOf(e)
	e.s.entries[e.job.ID] = e
}

// Try gives a job its locks, or says what is in its way and changes nothing. It
// has to enter then, or leave.
func (e *Entry) Try() []record.Blocker {
	s := e.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if blocks := s.locks.Try(e.ask(), named); len(blocks) > 0 {
		return s.explain(e.ask(), blocks, time.Now())
	}
	e.add()
	e.become(WantsSlot)
	return nil
}

// Restore gives a job of before a restart its locks and its slot back.
func (e *Entry) Restore() error {
	s := e.s
	s.mu.Lock()
	defer s.mu.Unlock()
	e.add()
	s.run(e)
	return s.locks.Restore(e.ask())
}

// Leave takes a job out, wherever it stands, and lets others follow.
func (e *Entry) Leave() {
	s := e.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.state == Out {
		return
	}
	delete(s.entries, e.job.ID)
	s.withdraw(e)
	e.become(Out)
	s.fill()
}

// Paused is why a job is held that a person paused.
var Paused = record.Blocker{For: "hold"}

// Hold keeps a queued job from being granted, and says why; it gives back what
// it has and asks anew when it is released.
func (e *Entry) Hold(why record.Blocker) {
	s := e.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.state == Out {
		return // canceled already, which could not be recorded yet
	}
	s.withdraw(e)
	select {
	case <-e.Granted: // given a moment ago and not taken up
	default:
	}
	e.hold(why)
	s.fill()
}

func (e *Entry) hold(why record.Blocker) {
	e.become(Held)
	e.why = why
	if why.Since.IsZero() {
		e.why.Since = e.since.UTC()
	}
}

// Release ends a hold.
func (e *Entry) Release() {
	e.s.mu.Lock()
	defer e.s.mu.Unlock()
	if e.state == Held {
		e.s.askLocks(e)
		e.s.fill()
	}
}

// SetPriority gives a job another priority.
func (e *Entry) SetPriority(to record.Priority) {
	s := e.s
	s.mu.Lock()
	defer s.mu.Unlock()
	e.job.Priority = to
	if e.state == WantsSlot {
		s.drop(e)
		s.line(e)
		s.fill()
	}
}

// Waited reports whether the job did not get its locks at once.
func (e *Entry) Waited() bool {
	e.s.mu.Lock()
	defer e.s.mu.Unlock()
	return e.waited
}

// SetLimits changes the limits at once.
func (s *Schedule) SetLimits(l record.Limits) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limits = l
	s.divide()
	s.fill()
}

// Limits gives the limits in force.
func (s *Schedule) Limits() record.Limits {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.limits
}

// Drain ends granting until it is called with false.
func (s *Schedule) Drain(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !on:
		s.drained = time.Time{}
		s.fill()
	case s.drained.IsZero():
		s.drained = time.Now()
	}
}

// Close ends granting for good.
func (s *Schedule) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
}

// Running gives the numbers of the jobs that have a slot.
func (s *Schedule) Running() []int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	numbers := []int64{}
	for _, e := range s.entries {
		if e.state == Running {
			numbers = append(numbers, e.job.Number)
		}
	}
	slices.Sort(numbers)
	return numbers
}

// Waiting counts the jobs that have none.
func (s *Schedule) Waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	waiting := len(s.entries)
	for r, n := range s.used {
		if r.of == ofAll {
			waiting -= n
		}
	}
	return waiting
}

// The rest is called with mu held.

func (s *Schedule) halted() bool { return s.closed || !s.drained.IsZero() }

func (s *Schedule) askLocks(e *Entry) {
	if s.locks.Ask(e.ask()) {
		s.line(e)
		return
	}
	e.become(WantsLock)
	e.waited = true
}

// line puts a job that has its locks in order for a slot.
func (s *Schedule) line(e *Entry) {
	e.become(WantsSlot)
	s.ready = slices.Insert(s.ready, s.turn(e), e)
}

// turn is where in the order a job stands, or would stand, from 0.
func (s *Schedule) turn(e *Entry) int {
	i, _ := slices.BinarySearchFunc(s.ready, e, func(a, b *Entry) int {
		return cmp.Or(a.due().Compare(b.due()), cmp.Compare(a.job.Number, b.job.Number))
	})
	return i
}

func (s *Schedule) drop(e *Entry) {
	s.ready = slices.DeleteFunc(s.ready, func(r *Entry) bool { return r == e })
}

// withdraw takes back locks and slot.
func (s *Schedule) withdraw(e *Entry) {
	switch e.state {
	case Running:
		s.count(e, -1)
		e.become(Held)
		s.divide()
	case WantsSlot:
		s.drop(e)
	case Held:
		return
	}
	s.follow(s.locks.Release(e.job.ID))
}

// follow does what a change of the locks makes possible.
func (s *Schedule) follow(c locks.Change) {
	for _, id := range c.Granted {
		s.line(s.entries[id])
	}
	for _, id := range c.Vacated {
		notify(s.entries[id].Vacated)
	}
}

// notify leaves a token, unless the last one has not been taken up: whoever
// takes that looks at all there is.
func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (s *Schedule) run(e *Entry) {
	e.become(Running)
	s.count(e, 1)
	s.divide()
}

// fill gives free slots to those who stand for them.
func (s *Schedule) fill() {
	if s.halted() {
		return
	}
	taken := map[resource]bool{} // whose slots an earlier one waits for
	s.ready = slices.DeleteFunc(s.ready, func(e *Entry) bool {
		_, lacks := s.lacks(e)
		if lacks || slices.ContainsFunc(e.needs, func(r resource) bool { return taken[r] }) {
			for _, r := range e.needs {
				taken[r] = r.of != ofAll // of all, others may have what this one cannot use
			}
			return false
		}
		s.run(e)
		e.Granted <- struct{}{}
		return true
	})
}
