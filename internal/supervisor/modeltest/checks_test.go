package modeltest

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"storaged/internal/record"
	"storaged/internal/store"
	"storaged/internal/supervisor"
	"storaged/internal/supervisor/helpertest"
	"storaged/internal/supervisor/locks"
	"storaged/internal/supervisor/schedule"
)

// The rules of locks once more, from the design's table: for each mode, those
// that it cannot be beside, on one object and with a volume of a pool.
var (
	clashes = map[record.Mode]string{
		"Q": "", "R": "GWD", "M": "MGWD", "G": "RMGWD", "W": "RMGWD", "D": "RMGWD",
	}
	poolClashes = map[record.Mode]string{"R": "GWD", "W": "RMGWD", "D": "RMGWD"}
)

func clash(a, b record.Object) bool {
	switch {
	case a.Pool != b.Pool:
		return false
	case a.Volume == b.Volume:
		return strings.Contains(clashes[a.Mode], string(b.Mode))
	case a.Volume == "":
		return strings.Contains(poolClashes[a.Mode], string(b.Mode))
	case b.Volume == "":
		return strings.Contains(poolClashes[b.Mode], string(a.Mode))
	}
	return false
}

// entry is a job in the schedule at one moment.
type entry struct {
	id       string
	number   int64
	class    record.Class
	due      time.Time
	asked    time.Time
	standing schedule.State
	objects  []record.Object
	pools    []string
	held     []record.Object
	blocks   []locks.Block
	limit    int64
	part     int64
	paused   bool
	reasons  int
	over     bool // its end is durable, and it is about to leave
	behavior behavior
}

// visits says that b may be inside a window of a, in spite of a clash.
func (a *entry) visits(b *entry) bool {
	if a.behavior.Mask == "" || a.class != record.Async || b.class != record.Normal {
		return false
	}
	for _, mine := range a.objects {
		for _, theirs := range b.objects {
			if clash(mine, theirs) && (theirs.Volume == "" || !strings.Contains(a.behavior.Mask, string(theirs.Mode))) {
				return false
			}
		}
	}
	return true
}

func (a *entry) clashes(b *entry) bool {
	for _, mine := range a.objects {
		if slices.ContainsFunc(b.objects, func(theirs record.Object) bool { return clash(mine, theirs) }) {
			return true
		}
	}
	return false
}

func (a *entry) holds() bool {
	return a.standing == schedule.WantsSlot || a.standing == schedule.Running
}

// snapshot is the schedule at one moment.
type snapshot struct {
	jobs   map[string]*entry
	ready  []int64
	limits record.Limits
	used   map[string]int // slots, by resource
	closed bool           // or drained
}

func (c *checker) snapshot(s *supervisor.Supervisor) *snapshot {
	now := s.Snapshot()
	p := &snapshot{jobs: map[string]*entry{}, ready: now.Ready, limits: now.Limits, used: now.Taken, closed: now.Halted}
	for id, at := range now.Jobs {
		steps := map[record.Priority]time.Duration{record.Interactive: 0, record.NormalPriority: 1, record.Background: 2}
		m := &entry{
			id: id, number: at.Number, class: at.Class, due: at.Created.Add(steps[at.Priority] * c.d.cfg.Times.Ageing), asked: at.Since,
			standing: at.State, objects: at.Objects, held: at.Locks, blocks: at.Blocks, limit: at.Limit, part: at.Share, paused: at.Paused,
		}
		r := c.recorded(s, id)
		m.over, m.reasons, m.behavior = r.State.Terminal(), len(r.PauseReasons), c.behavior(id)
		for _, o := range at.Objects {
			if !slices.Contains(m.pools, o.Pool) {
				m.pools = append(m.pools, o.Pool)
			}
		}
		p.jobs[id] = m
	}
	return p
}

// recorded is what the record of a job says, which is later than the snapshot;
// nothing when it is removed already.
func (c *checker) recorded(s *supervisor.Supervisor, id string) record.Job {
	j, err := s.Job(id)
	if err != nil && record.CodeOf(err) != record.NotFound {
		c.fault("job %s has no record: %v", id, err)
	}
	return j
}

// behavior is that of the job's helper, which its argv tells.
func (c *checker) behavior(id string) behavior {
	b, known := c.behaviors[id]
	if !known {
		err := c.d.store.View(func(tx *store.Tx) error {
			j, err := tx.Job(id)
			if err == nil {
				b = behaviorOf(j.Argv)
				c.behaviors[id] = b
			}
			return err
		})
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			c.fault("job %s has no record: %v", id, err)
		}
	}
	return b
}

// liveHelper is a helper that lives: its entry among those alive is locked.
type liveHelper struct {
	job  string
	pid  int
	note note
}

func alive(dir string) map[string]liveHelper {
	entries, err := os.ReadDir(dir)
	helpertest.Check(err)
	out := map[string]liveHelper{}
	for _, e := range entries {
		if r, ok := look(filepath.Join(dir, e.Name())); ok {
			out[e.Name()] = r
		}
	}
	return out
}

func look(path string) (r liveHelper, ok bool) {
	f, err := os.Open(path)
	if err != nil {
		return r, false // another has seen that it is dead
	}
	defer f.Close()
	b := make([]byte, noteSize)
	n, _ := f.ReadAt(b, 0) // first: who has written has the lock
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
		if n > 0 { // it is dead: nobody need look again
			_ = os.Rename(path, filepath.Join(filepath.Dir(path), "..", "ended", filepath.Base(path)))
		}
		return r, false
	}
	if json.Unmarshal(b[:n], &r.note) != nil {
		return r, false // it has only just come
	}
	job, pid, _ := strings.Cut(filepath.Base(path), ".")
	r.job = job
	r.pid, err = strconv.Atoi(pid)
	helpertest.Check(err)
	return r, true
}

// checker checks after each step what must hold always.
type checker struct {
	d *daemon

	mu        sync.Mutex
	before    *snapshot
	bounds    []record.Limits // that were in force since the last look
	percent   map[string]float64
	behaviors map[string]behavior // by job
	faults    []string
}

func newChecker(d *daemon) *checker {
	c := &checker{d: d, behaviors: map[string]behavior{}}
	c.forget()
	return c
}

// forget is for another supervisor.
func (c *checker) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.before, c.bounds, c.percent = nil, nil, map[string]float64{}
}

// limit notes limits that are about to be in force.
func (c *checker) limit(l record.Limits) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bounds = append(c.bounds, l)
}

func (c *checker) fault(format string, args ...any) {
	c.faults = append(c.faults, fmt.Sprintf(format, args...))
}

func (c *checker) check(s *supervisor.Supervisor) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = nil
	first := alive(filepath.Join(c.d.dir, "alive"))
	views := s.Live()
	p := c.snapshot(s)
	second := alive(filepath.Join(c.d.dir, "alive"))
	c.checkHelpers(p, first, second)
	c.checkLocks(p, first, second)
	c.checkWaiting(p)
	c.checkOrder(p)
	c.checkSlots(p)
	c.checkShares(p)
	c.checkViews(s, views)
	c.checkMeasure(p, views)
	c.before, c.bounds = p, []record.Limits{p.limits}
	return append(c.faults, c.d.eventLog.take()...)
}

// checkHelpers holds that who lives through the look has a record, and its
// job the locks and a slot.
func (c *checker) checkHelpers(p *snapshot, first, second map[string]liveHelper) {
	for name, r := range second {
		if _, ok := first[name]; !ok {
			continue
		}
		at := p.jobs[r.job]
		if at == nil {
			c.fault("process %d of job %s lives, and the job has left the queue", r.pid, r.job)
			continue
		}
		if at.standing != schedule.Running || !slices.Equal(at.held, at.objects) {
			c.fault("process %d of job %d lives, and the job holds %v of %v (standing %d)", r.pid, at.number, at.held, at.objects, at.standing)
		}
		if first[name].note.Go && !r.note.Child {
			c.checkRecord(r)
		}
	}
}

// checkRecord holds that a helper that has begun is in the durable record.
func (c *checker) checkRecord(r liveHelper) {
	var rec *store.Job
	err := c.d.store.View(func(tx *store.Tx) (err error) { rec, err = tx.Job(r.job); return err })
	if err != nil {
		c.fault("process %d has begun, and job %s has no record: %v", r.pid, r.job, err)
		return
	}
	who := rec.Helper
	if r.note.Settles {
		who = rec.Settler
	}
	if !rec.Go || rec.State == record.Queued || rec.State == record.Starting || who == nil || who.PID != r.pid {
		c.fault("process %d has begun, and job %d has no record of it: %s, go %v, helper %+v", r.pid, rec.Number, rec.State, rec.Go, who)
	}
}

// checkLocks holds that holders are compatible but for visitors in windows.
func (c *checker) checkLocks(p *snapshot, first, second map[string]liveHelper) {
	for _, x := range p.jobs {
		if x.holds() != (x.held != nil) || x.held != nil && !slices.Equal(x.held, x.objects) {
			c.fault("job %d stands at %d and holds %v of %v", x.number, x.standing, x.held, x.objects)
		}
		for _, y := range p.jobs {
			if x.number >= y.number || !x.holds() || !y.holds() || !x.clashes(y) {
				continue
			}
			holder, visitor := x, y
			if !holder.visits(visitor) {
				holder, visitor = y, x
			}
			if !holder.visits(visitor) {
				c.fault("jobs %d %v and %d %v hold at once", x.number, x.objects, y.number, y.objects)
			} else if alone(holder.id, first, second) {
				c.fault("job %d works beside its visitor %d", holder.number, visitor.number)
			}
		}
	}
}

// alone says that a helper of the job took itself for alone all the time
// between two looks.
func alone(job string, first, second map[string]liveHelper) bool {
	for name, r := range second {
		was, ok := first[name]
		if ok && r.job == job && r.note.Go && was.note.Go && !r.note.Child && r.note.Closed && was.note.Closed && was.note.Turns == r.note.Turns {
			return true
		}
	}
	return false
}

// checkWaiting holds that who waits for locks waits for those, and only those,
// who hold or asked before and are in its way.
func (c *checker) checkWaiting(p *snapshot) {
	for _, x := range p.jobs {
		if x.standing == schedule.Held && x.reasons == 0 && !x.over {
			c.fault("job %d is held back without a reason", x.number)
		}
		if x.standing != schedule.WantsLock {
			continue
		}
		named := map[string]bool{}
		for _, b := range x.blocks {
			named[b.Holder] = true
		}
		for _, y := range p.jobs {
			if x == y {
				continue
			}
			way := x.clashes(y) && (y.holds() || y.standing == schedule.WantsLock && y.asked.Before(x.asked))
			if maybe := way && y.holds() && y.visits(x); way != named[y.id] && !maybe {
				c.fault("job %d waits; job %d is in its way: %v, named: %v", x.number, y.number, way, named[y.id])
			}
			delete(named, y.id)
		}
		if len(x.blocks) == 0 || len(named) > 0 {
			c.fault("job %d waits for %d others, of which unknown %v", x.number, len(x.blocks), named)
		}
	}
}

// checkOrder holds that nobody is passed by a later asker in its way.
func (c *checker) checkOrder(p *snapshot) {
	if c.before == nil {
		return
	}
	for _, x := range p.jobs {
		was := c.before.jobs[x.id]
		if x.standing != schedule.WantsLock || was == nil || was.standing != schedule.WantsLock || !was.asked.Equal(x.asked) {
			continue
		}
		for _, y := range p.jobs {
			early := c.before.jobs[y.id]
			since := early != nil && early.holds()
			earlier := early != nil && early.standing == schedule.WantsLock && early.asked.Before(x.asked)
			if y.holds() && !since && !earlier && x.clashes(y) {
				c.fault("job %d waits, and job %d, which asked later and is in its way, was let in", x.number, y.number)
			}
		}
	}
}

// needs are the resources of which a job takes a slot each.
func (x *entry) needs() map[string]bool {
	n := map[string]bool{"all " + string(x.class): true}
	if x.class == record.Async {
		for _, pool := range x.pools {
			n["pool "+pool] = true
			for _, device := range devicesOf[pool] {
				n["device "+device] = true
			}
		}
	}
	return n
}

// room is how many slots a resource has; 0 is no limit.
func room(l record.Limits, resource string) int {
	kind, name, _ := strings.Cut(resource, " ")
	limit, ok := l.Running, false
	switch kind {
	case "pool":
		if limit, ok = l.PoolRunning[name]; !ok {
			limit = l.RunningPool
		}
	case "device":
		if limit, ok = l.DeviceRunning[name]; !ok {
			limit = l.RunningDevice
		}
	}
	return limit
}

// checkSlots counts the slots, and holds that none is free for who is next.
func (c *checker) checkSlots(p *snapshot) {
	used := map[string]int{}
	var next []*entry
	for _, x := range p.jobs {
		switch x.standing {
		case schedule.Running:
			for r := range x.needs() {
				used[r]++
			}
		case schedule.WantsSlot:
			next = append(next, x)
		}
	}
	if !maps.Equal(used, p.used) {
		c.fault("%v run, counted are %v", used, p.used)
	}
	c.checkNext(p, next, used)
	c.checkBounds(p, used)
}

// checkNext holds that slots are given in order, to whom they are free. Of a
// pool or device none is given past one who waits for it.
func (c *checker) checkNext(p *snapshot, next []*entry, used map[string]int) {
	slices.SortFunc(next, func(x, y *entry) int { return cmp.Or(x.due.Compare(y.due), cmp.Compare(x.number, y.number)) })
	var order []int64
	kept := map[string]bool{}
	for _, x := range next {
		order = append(order, x.number)
		fits := true
		for r := range x.needs() {
			limit := room(p.limits, r)
			fits = fits && !kept[r] && (limit <= 0 || used[r] < limit)
		}
		if fits && !p.closed {
			c.fault("job %d waits for a slot, and there is one", x.number)
		}
		for r := range x.needs() {
			kept[r] = kept[r] || !strings.HasPrefix(r, "all ")
		}
	}
	if !slices.Equal(order, p.ready) {
		c.fault("jobs stand for slots as %v, due are %v", p.ready, order)
	}
}

// checkBounds holds that nobody got a slot beyond the limits. What ran before
// they were lowered may run on.
func (c *checker) checkBounds(p *snapshot, used map[string]int) {
	if c.before == nil {
		return
	}
	came := map[string]bool{}
	for id, x := range p.jobs {
		if was := c.before.jobs[id]; x.standing == schedule.Running && (was == nil || was.standing != schedule.Running) {
			maps.Copy(came, x.needs())
		}
	}
	for r := range came {
		if !slices.ContainsFunc(c.bounds, func(l record.Limits) bool { return room(l, r) <= 0 || used[r] <= room(l, r) }) {
			c.fault("%d jobs have a slot of %s, limits %+v", used[r], r, c.bounds)
		}
	}
}

// checkShares holds that those under a cap keep to it together.
func (c *checker) checkShares(p *snapshot) {
	caps := map[string]int64{}
	if p.limits.Rate != nil {
		caps["all "+string(record.Async)] = *p.limits.Rate
	}
	for pool, rate := range p.limits.PoolRates {
		caps["pool "+pool] = rate
	}
	for device, rate := range p.limits.DeviceRates {
		caps["device "+device] = rate
	}
	for r, rate := range caps {
		var sum, n int64
		for _, x := range p.jobs {
			if x.standing == schedule.Running && x.class == record.Async && !x.paused && x.needs()[r] {
				n, sum = n+1, sum+least(x.limit, x.part)
				if x.part == 0 {
					c.fault("job %d has no part of the cap of %s", x.number, r)
				}
			}
		}
		if sum > max(rate, n) {
			c.fault("%d jobs go at %d together, the cap of %s is %d", n, sum, r, rate)
		}
	}
	for _, x := range p.jobs {
		capped := false
		for r := range x.needs() {
			capped = capped || caps[r] > 0
		}
		if x.part != 0 && !capped {
			c.fault("job %d has a part of %d of no cap", x.number, x.part)
		}
	}
}

// least is the lower of two rates, 0 being none.
func least(a, b int64) int64 {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}

// checkViews looks at what people see.
func (c *checker) checkViews(s *supervisor.Supervisor, views []record.Job) {
	for _, v := range views {
		if v.Progress.Percent != nil {
			is, was := *v.Progress.Percent, c.percent[v.ID]
			if is < was || is > 99.9 && v.State != record.Succeeded {
				c.fault("job %d (%s) is seen at %v %%, was at %v", v.Number, v.State, is, was)
			}
			c.percent[v.ID] = is
		}
		if v.State == record.Queued && len(v.WaitingOn) == 0 && !c.goesOn(s, v.ID) {
			c.fault("job %d waits for nothing", v.Number)
		}
		if !v.State.Terminal() && v.Cancelable != (v.State != record.Finalizing && v.State != record.RollingBack) {
			c.fault("job %d (%s) is cancelable: %v", v.Number, v.State, v.Cancelable)
		}
		for _, b := range v.WaitingOn {
			if b.Holder != nil && b.Holder.ID == v.ID {
				c.fault("job %d waits for itself", v.Number)
			}
		}
	}
}

// checkMeasure holds percent against what an honest helper has done: by its plan
// the copy is 98 of 100, and 1 comes before it.
func (c *checker) checkMeasure(p *snapshot, views []record.Job) {
	for _, v := range views {
		at, done := p.jobs[v.ID], v.Progress
		if at == nil || at.behavior.Lies || v.State != record.Running || v.Phase == nil || v.Phase.Name != "copy" || done.Total == 0 || done.Percent == nil {
			continue
		}
		if want := 1 + 98*float64(done.Done)/float64(done.Total); math.Abs(*done.Percent-want) > 0.2 {
			c.fault("job %d has done %d of %d and is seen at %v %%, should be at %v %%", v.Number, done.Done, done.Total, *done.Percent, want)
		}
	}
}

// goesOn says that a queued job that waits for nothing is on its way.
func (c *checker) goesOn(s *supervisor.Supervisor, id string) bool {
	return c.d.eventLog.until(func() bool {
		j, err := s.Job(id)
		return err == nil && (j.State != record.Queued || len(j.WaitingOn) > 0)
	})
}

// queueOrder says which of those that wait for locks after a restart do not
// stand in the order in which they came.
func (c *checker) queueOrder(s *supervisor.Supervisor, waited map[string]bool) (faults []string) {
	var waiting []*entry
	for _, x := range c.snapshot(s).jobs {
		if x.standing == schedule.WantsLock && waited[x.id] {
			waiting = append(waiting, x)
		}
	}
	slices.SortFunc(waiting, func(x, y *entry) int { return x.asked.Compare(y.asked) })
	if !slices.IsSortedFunc(waiting, func(x, y *entry) int { return cmp.Compare(x.number, y.number) }) {
		for _, x := range waiting {
			faults = append(faults, fmt.Sprintf("after a restart job %d waits out of order since %v", x.number, x.asked))
		}
	}
	return faults
}

// settled says which helpers that obey have not come to what they were told:
// paused, and as fast as they may go.
func (c *checker) settled(s *supervisor.Supervisor) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = nil
	var faults []string
	c.d.eventLog.until(func() bool { faults = c.unsettled(s); return len(faults) == 0 })
	return append(faults, c.faults...)
}

func (c *checker) unsettled(s *supervisor.Supervisor) (faults []string) {
	helpers := alive(filepath.Join(c.d.dir, "alive"))
	p := c.snapshot(s)
	for _, r := range helpers {
		at := p.jobs[r.job]
		if at == nil || at.over || at.behavior.Work != forever || at.behavior.Mask != "" || !r.note.Go || r.note.Child || r.note.Settles {
			continue
		}
		state := c.recorded(s, r.job).State
		if state != record.Running && state != record.Paused {
			continue
		}
		if paused := state == record.Paused; paused != (at.reasons > 0) {
			faults = append(faults, fmt.Sprintf("job %d is %s with %d reasons to pause", at.number, state, at.reasons))
		}
		if want := least(at.limit, at.part); state == record.Running && r.note.Limit != want {
			faults = append(faults, fmt.Sprintf("the helper of job %d goes at %d, should at %d", at.number, r.note.Limit, want))
		}
	}
	return faults
}
