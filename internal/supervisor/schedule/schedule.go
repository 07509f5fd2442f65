package supervisor

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"storaged/internal/record"
	"storaged/internal/supervisor/locks"
)

// queue is where jobs wait: for their locks first, in the order in which they
// asked (package locks), then, holding them, for a place among the running
// ones. A running job waits for nothing, so the two steps cannot block each
// other for ever. Its methods may be called from any goroutine; none does I/O.
//
// Places are given by class: a job counts as having come earlier by one ageing
// interval than a job of the next lesser class that came with it, so the order
// is fixed when it comes, and nobody is passed for longer than that. A job
// that does not fit keeps those after it from the places that it waits for.
//
// What a place is of, is in resource.go.
type queue struct {
	locks  *locks.Manager
	ageing time.Duration

	mu      sync.Mutex
	limits  record.Limits
	closed  bool      // nothing is granted any more
	drained time.Time // since when nothing is granted until that is taken back; zero: it is
	places  map[string]*place
	ready   []*place            // with locks, without a place among the running; in order
	used    map[resource]int    // running jobs
	devices map[string][]string // by pool
	shared  bool                // there are caps on rates
}

// standing is where a job stands in the queue.
type standing int

const (
	isHeld    standing = iota // does not ask: a person paused it, or it cannot start
	wantsLock                 // asked for locks
	wantsSlot                 // holds locks
	isRunning
)

type place struct {
	j        *job
	class    record.Class
	priority record.Priority
	objects  []record.Object
	pools    []string
	needs    []resource
	number   int64
	since    time.Time // when it came, for its order
	asked    time.Time // when it began to stand where it stands
	standing standing
	held     record.Blocker // why, while it does not ask
	moves    int64          // bytes, at most; 0: nobody knows
	limit    int64          // the job's own, bytes per second; 0: none
	paused   bool
}

func newQueue(limits record.Limits, ageing time.Duration) *queue {
	return &queue{
		locks: locks.New(), ageing: ageing, limits: limits,
		places: map[string]*place{}, used: map[resource]int{}, devices: map[string][]string{},
	}
}

// placeOf makes the place of a job. It is called with mu held.
func (q *queue) placeOf(j *job) *place {
	r := &j.shown.Load().rec
	p := &place{j: j, class: r.Class, priority: r.Priority, objects: r.Objects, number: r.Number, since: r.Created, moves: r.Moves, limit: deref(r.Limit)}
	for _, o := range r.Objects {
		if !slices.Contains(p.pools, o.Pool) {
			p.pools = append(p.pools, o.Pool)
		}
	}
	p.needs = q.needsOf(p)
	return p
}

func (p *place) ask() locks.Ask {
	return locks.Ask{ID: p.j.id, Objects: p.objects, Visits: p.class == record.Normal}
}

// due is the time by which places are given.
func (p *place) due(ageing time.Duration) time.Time { return p.priority.Turn(p.since, ageing) }

func (p *place) stand(s standing) { p.standing, p.asked = s, time.Now() }

// byHand is why a job does not ask that a person paused.
var byHand = record.Blocker{For: "hold"}

func (p *place) hold(why record.Blocker) {
	p.stand(isHeld)
	p.held = why
	if why.Since.IsZero() {
		p.held.Since = p.asked.UTC()
	}
}

// enter lets a job ask for its locks, unless it is held back.
func (q *queue) enter(j *job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	p := q.placeOf(j)
	q.places[j.id] = p
	if len(j.shown.Load().rec.PauseReasons) > 0 {
		p.hold(byHand)
		return
	}
	q.askLocks(p)
	q.fill()
}

// try is enter for a job that does not wait for locks: what is in its way is
// given, and nothing has changed, or it holds them.
func (q *queue) try(j *job) []record.Blocker {
	q.mu.Lock()
	defer q.mu.Unlock()
	p := q.placeOf(j)
	if blocks := q.locks.Try(p.ask(), named); len(blocks) > 0 {
		return q.explain(p.ask(), blocks, time.Now())
	}
	q.places[j.id] = p
	p.stand(wantsSlot)
	return nil
}

// admit lets a job that try let in stand for a place.
func (q *queue) admit(j *job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	p := q.placeOf(j) // its number is known now
	q.places[j.id] = p
	q.line(p)
	q.fill()
}

// restore gives a job of before a restart its locks and its place back.
func (q *queue) restore(j *job) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	p := q.placeOf(j)
	q.places[j.id] = p
	q.run(p)
	return q.locks.Restore(p.ask())
}

// leave takes a job out, wherever it stands, and lets others follow.
func (q *queue) leave(j *job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	p := q.places[j.id]
	if p == nil {
		return
	}
	delete(q.places, j.id)
	q.withdraw(p)
	q.fill()
}

// hold keeps a queued job from being granted, and says why; it lets go of what
// it has and asks anew when it is let on.
func (q *queue) hold(j *job, why record.Blocker) {
	q.mu.Lock()
	defer q.mu.Unlock()
	p := q.places[j.id]
	if p == nil {
		return // canceled already, which could not be recorded yet
	}
	q.withdraw(p)
	select {
	case <-j.grant: // given a moment ago and not taken up
	default:
	}
	p.hold(why)
	q.fill()
}

// letOn ends a hold.
func (q *queue) letOn(j *job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if p := q.places[j.id]; p != nil && p.standing == isHeld {
		q.askLocks(p)
		q.fill()
	}
}

// reorder gives a job another class.
func (q *queue) reorder(j *job, to record.Priority) {
	q.mu.Lock()
	defer q.mu.Unlock()
	p := q.places[j.id]
	if p == nil {
		return
	}
	p.priority = to
	if p.standing == wantsSlot {
		q.drop(p)
		q.line(p)
		q.fill()
	}
}

func (q *queue) setLimits(l record.Limits) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.limits = l
	q.share()
	q.fill()
}

// drain ends granting until it is called with false.
func (q *queue) drain(on bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case !on:
		q.drained = time.Time{}
		q.fill()
	case q.drained.IsZero():
		q.drained = time.Now()
	}
}

// runningJobs gives the numbers of those that hold a place.
func (q *queue) runningJobs() []int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	numbers := []int64{}
	for _, p := range q.places {
		if p.standing == isRunning {
			numbers = append(numbers, p.number)
		}
	}
	slices.Sort(numbers)
	return numbers
}

// close ends granting for good.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
}

// waitingJobs counts those that do not run.
func (q *queue) waitingJobs() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	waiting := len(q.places)
	for r, n := range q.used {
		if r.of == ofAll {
			waiting -= n
		}
	}
	return waiting
}

func (q *queue) limitsNow() record.Limits {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.limits
}

// The rest is called with mu held.

func (q *queue) askLocks(p *place) {
	if q.locks.Ask(p.ask()) {
		q.line(p)
		return
	}
	p.stand(wantsLock)
	p.j.lockWaited.Store(true)
}

// line puts a job that has its locks in order for a place.
func (q *queue) line(p *place) {
	p.stand(wantsSlot)
	q.ready = slices.Insert(q.ready, q.turn(p), p)
}

// turn is where in the order a job stands, or would stand, from 0.
func (q *queue) turn(p *place) int {
	i, _ := slices.BinarySearchFunc(q.ready, p, func(a, b *place) int {
		return cmp.Or(a.due(q.ageing).Compare(b.due(q.ageing)), cmp.Compare(a.number, b.number))
	})
	return i
}

func (q *queue) drop(p *place) {
	q.ready = slices.DeleteFunc(q.ready, func(r *place) bool { return r == p })
}

// withdraw takes back locks and place.
func (q *queue) withdraw(p *place) {
	switch p.standing {
	case isRunning:
		q.count(p, -1)
		p.stand(isHeld)
		q.share()
	case wantsSlot:
		q.drop(p)
	case isHeld:
		return
	}
	q.follow(q.locks.Release(p.j.id))
}

// follow does what a change of the locks makes possible.
func (q *queue) follow(c locks.Change) {
	for _, id := range c.Granted {
		q.line(q.places[id])
	}
	for _, id := range c.Vacated {
		select {
		case q.places[id].j.empty <- struct{}{}:
		default: // it has not taken the last token up, and will look
		}
	}
}

func (q *queue) run(p *place) {
	p.stand(isRunning)
	q.count(p, 1)
	q.share()
}

// fill gives free places to those who stand for them.
func (q *queue) fill() {
	if q.closed || !q.drained.IsZero() {
		return
	}
	taken := map[resource]bool{} // whose places an earlier one waits for
	q.ready = slices.DeleteFunc(q.ready, func(p *place) bool {
		_, lacks := q.lacks(p)
		if lacks || slices.ContainsFunc(p.needs, func(r resource) bool { return taken[r] }) {
			for _, r := range p.needs {
				taken[r] = r.of != ofAll // of all, others may have what this one cannot use
			}
			return false
		}
		q.run(p)
		p.j.grant <- struct{}{}
		return true
	})
}

// named is whom an answer to "why does it wait" names at most. Of those who
// only asked earlier the first will do: the position counts them all.
var named = locks.Most{Holders: record.MaxHolders, Askers: 1}

// blockers says why a job waits, by the same facts by which it is granted.
func (q *queue) blockers(j *job) []record.Blocker {
	q.mu.Lock()
	defer q.mu.Unlock()
	p := q.places[j.id]
	if p == nil {
		return nil
	}
	switch p.standing {
	case isHeld:
		return []record.Blocker{p.held}
	case wantsLock:
		blocks := q.explain(p.ask(), q.locks.Blockers(j.id, named), p.asked)
		if !q.drained.IsZero() {
			blocks = append(blocks, record.Blocker{For: "drain", Since: q.drained.UTC()})
		}
		return blocks
	case wantsSlot:
		return []record.Blocker{q.explainSlot(p)}
	default:
		return nil
	}
}

// probe says what would be in the way of a request now.
func (q *queue) probe(class record.Class, objects []record.Object) []record.Blocker {
	q.mu.Lock()
	defer q.mu.Unlock()
	ask := locks.Ask{Objects: objects, Visits: class == record.Normal}
	return q.explain(ask, q.locks.Probe(ask, named), time.Now())
}

func (q *queue) explainSlot(p *place) record.Blocker {
	b := record.Blocker{For: "slot", Since: p.asked.UTC(), Position: 1, Short: p.short()}
	for _, before := range q.ready[:q.turn(p)] {
		if before.short() == p.short() {
			b.Position++
		}
	}
	if q.closed || !q.drained.IsZero() {
		b.For = "drain"
		return b
	}
	switch r, _ := q.lacks(p); r.of {
	case ofPool:
		b.Object = &record.Object{Pool: r.name}
	case ofDevice:
		b.Device = r.name
	}
	return b
}

// explain says of those who are in the way what is known; blocks has holders
// first.
func (q *queue) explain(a locks.Ask, blocks []locks.Block, since time.Time) []record.Blocker {
	next := !slices.ContainsFunc(blocks, func(b locks.Block) bool { return b.Waiting }) // whom no window passes
	var out []record.Blocker
	for _, b := range blocks {
		asked := b.Asked
		w := record.Blocker{
			For: "lock", Object: &asked, Mode: asked.Mode, Position: b.Position, Since: since.UTC(),
			Holder: q.holder(b), ExpectedEnd: q.expectedEnd(b), More: b.More,
		}
		if next {
			w.NextWindow = q.nextWindow(a, b)
		}
		out = append(out, w)
	}
	return out
}

func (q *queue) holder(b locks.Block) *record.Holder {
	h := &record.Holder{ID: b.Holder, Mode: b.Held.Mode}
	if p := q.places[b.Holder]; p != nil {
		r := &p.j.shown.Load().rec
		owner := r.Owner
		h.Number, h.Kind, h.Owner = r.Number, r.Kind, &owner
	}
	return h
}

func (q *queue) expectedEnd(b locks.Block) *time.Time {
	p := q.places[b.Holder]
	if p == nil || p.standing != isRunning {
		return nil
	}
	return p.j.track.expectedEnd()
}
