package supervisor

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

// spot is a job in the queue at one moment.
type spot struct {
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
	role     role
}

// visits says that b may be inside a window of a, in spite of a clash.
func (a *spot) visits(b *spot) bool {
	if a.role.Mask == "" || a.class != record.Async || b.class != record.Normal {
		return false
	}
	for _, mine := range a.objects {
		for _, theirs := range b.objects {
			if clash(mine, theirs) && (theirs.Volume == "" || !strings.Contains(a.role.Mask, string(theirs.Mode))) {
				return false
			}
		}
	}
	return true
}

func (a *spot) clashes(b *spot) bool {
	for _, mine := range a.objects {
		if slices.ContainsFunc(b.objects, func(theirs record.Object) bool { return clash(mine, theirs) }) {
			return true
		}
	}
	return false
}

func (a *spot) holds() bool {
	return a.standing == schedule.WantsSlot || a.standing == schedule.Running
}

// picture is the queue at one moment.
type picture struct {
	spots  map[string]*spot
	ready  []int64
	limits record.Limits
	used   map[string]int // places, by resource
	closed bool           // or drained
}

func pictureOf(s *Supervisor, ageing time.Duration) *picture {
	now := s.schedule.Snapshot()
	p := &picture{spots: map[string]*spot{}, ready: now.Ready, limits: now.Limits, used: now.Taken, closed: now.Halted}
	for id, at := range now.Jobs {
		steps := map[record.Priority]time.Duration{record.Interactive: 0, record.NormalPriority: 1, record.Background: 2}
		m := &spot{
			id: id, number: at.Number, class: at.Class, due: at.Created.Add(steps[at.Priority] * ageing), asked: at.Since,
			standing: at.State, objects: at.Objects, held: at.Locks, blocks: at.Blocks, limit: at.Limit, part: at.Share, paused: at.Paused,
		}
		m.over, m.reasons, m.role = recorded(s, id)
		for _, o := range at.Objects {
			if !slices.Contains(m.pools, o.Pool) {
				m.pools = append(m.pools, o.Pool)
			}
		}
		p.spots[id] = m
	}
	return p
}

// recorded is what the record of a job says, which is later than the picture.
func recorded(s *Supervisor, id string) (over bool, reasons int, r role) {
	var rec store.Job
	if j := s.find(id); j != nil {
		rec = j.shown.Load().rec
	} else if gone, err := s.stored(id); err == nil {
		rec = *gone
	}
	return rec.State.Terminal(), len(rec.PauseReasons), roleOf(rec.Argv)
}

// resident is an actor that lives: its entry in the census is locked.
type resident struct {
	job  string
	pid  int
	note note
}

func census(dir string) map[string]resident {
	entries, err := os.ReadDir(dir)
	check(err)
	out := map[string]resident{}
	for _, e := range entries {
		if r, ok := meet(filepath.Join(dir, e.Name())); ok {
			out[e.Name()] = r
		}
	}
	return out
}

func meet(path string) (r resident, ok bool) {
	f, err := os.Open(path)
	if err != nil {
		return r, false // another has seen that it is dead
	}
	defer f.Close()
	b := make([]byte, noteSize)
	n, _ := f.ReadAt(b, 0) // first: who has written has the lock
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
		if n > 0 { // it is dead: nobody need look again
			_ = os.Rename(path, filepath.Join(filepath.Dir(path), "..", "dead", filepath.Base(path)))
		}
		return r, false
	}
	if json.Unmarshal(b[:n], &r.note) != nil {
		return r, false // it has only just come
	}
	job, pid, _ := strings.Cut(filepath.Base(path), ".")
	r.job = job
	r.pid, err = strconv.Atoi(pid)
	check(err)
	return r, true
}

// auditor checks after each step what must hold always.
type auditor struct {
	h       *host
	mu      sync.Mutex
	before  *picture
	bounds  []record.Limits // that were in force since the last look
	percent map[string]float64
	faults  []string
}

func newAuditor(h *host) *auditor {
	a := &auditor{h: h}
	a.forget()
	return a
}

// forget is for another supervisor.
func (a *auditor) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.before, a.bounds, a.percent = nil, nil, map[string]float64{}
}

// limit notes limits that are about to be in force.
func (a *auditor) limit(l record.Limits) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.bounds = append(a.bounds, l)
}

func (a *auditor) fault(format string, args ...any) {
	a.faults = append(a.faults, fmt.Sprintf(format, args...))
}

func (a *auditor) check(s *Supervisor) []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.faults = nil
	first := census(filepath.Join(a.h.dir, "census"))
	views := s.Live()
	p := pictureOf(s, a.h.cfg.times.ageing)
	second := census(filepath.Join(a.h.dir, "census"))
	a.checkResidents(p, first, second)
	a.checkLocks(p, first, second)
	a.checkWaiting(p)
	a.checkOrder(p)
	a.checkPlaces(p)
	a.checkShares(p)
	a.checkViews(s, views)
	a.checkMeasure(p, views)
	a.before, a.bounds = p, []record.Limits{p.limits}
	return append(a.faults, a.h.ledger.take()...)
}

// checkResidents holds that who lives through the look has a record, and its
// job the locks and a place.
func (a *auditor) checkResidents(p *picture, first, second map[string]resident) {
	for name, r := range second {
		if _, ok := first[name]; !ok {
			continue
		}
		at := p.spots[r.job]
		if at == nil {
			a.fault("process %d of job %s lives, and the job has left the queue", r.pid, r.job)
			continue
		}
		if at.standing != schedule.Running || !slices.Equal(at.held, at.objects) {
			a.fault("process %d of job %d lives, and the job holds %v of %v (standing %d)", r.pid, at.number, at.held, at.objects, at.standing)
		}
		if first[name].note.Go && !r.note.Child {
			a.checkRecord(r)
		}
	}
}

// checkRecord holds that a helper that has begun is in the durable record.
func (a *auditor) checkRecord(r resident) {
	var rec *store.Job
	err := a.h.store.View(func(tx *store.Tx) (err error) { rec, err = tx.Job(r.job); return err })
	if err != nil {
		a.fault("process %d has begun, and job %s has no record: %v", r.pid, r.job, err)
		return
	}
	who := rec.Helper
	if r.note.Settles {
		who = rec.Settler
	}
	if !rec.Go || rec.State == record.Queued || rec.State == record.Starting || who == nil || who.PID != r.pid {
		a.fault("process %d has begun, and job %d has no record of it: %s, go %v, helper %+v", r.pid, rec.Number, rec.State, rec.Go, who)
	}
}

// checkLocks holds that holders are compatible but for visitors in windows.
func (a *auditor) checkLocks(p *picture, first, second map[string]resident) {
	for _, x := range p.spots {
		if x.holds() != (x.held != nil) || x.held != nil && !slices.Equal(x.held, x.objects) {
			a.fault("job %d stands at %d and holds %v of %v", x.number, x.standing, x.held, x.objects)
		}
		for _, y := range p.spots {
			if x.number >= y.number || !x.holds() || !y.holds() || !x.clashes(y) {
				continue
			}
			host, guest := x, y
			if !host.visits(guest) {
				host, guest = y, x
			}
			if !host.visits(guest) {
				a.fault("jobs %d %v and %d %v hold at once", x.number, x.objects, y.number, y.objects)
			} else if alone(host.id, first, second) {
				a.fault("job %d works beside its visitor %d", host.number, guest.number)
			}
		}
	}
}

// alone says that a helper of the job took itself for alone all the time
// between two looks.
func alone(job string, first, second map[string]resident) bool {
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
func (a *auditor) checkWaiting(p *picture) {
	for _, x := range p.spots {
		if x.standing == schedule.Held && x.reasons == 0 && !x.over {
			a.fault("job %d is held back without a reason", x.number)
		}
		if x.standing != schedule.WantsLock {
			continue
		}
		named := map[string]bool{}
		for _, b := range x.blocks {
			named[b.Holder] = true
		}
		for _, y := range p.spots {
			if x == y {
				continue
			}
			way := x.clashes(y) && (y.holds() || y.standing == schedule.WantsLock && y.asked.Before(x.asked))
			if maybe := way && y.holds() && y.visits(x); way != named[y.id] && !maybe {
				a.fault("job %d waits; job %d is in its way: %v, named: %v", x.number, y.number, way, named[y.id])
			}
			delete(named, y.id)
		}
		if len(x.blocks) == 0 || len(named) > 0 {
			a.fault("job %d waits for %d others, of which unknown %v", x.number, len(x.blocks), named)
		}
	}
}

// checkOrder holds that nobody is passed by a later asker in its way.
func (a *auditor) checkOrder(p *picture) {
	if a.before == nil {
		return
	}
	for _, x := range p.spots {
		was := a.before.spots[x.id]
		if x.standing != schedule.WantsLock || was == nil || was.standing != schedule.WantsLock || !was.asked.Equal(x.asked) {
			continue
		}
		for _, y := range p.spots {
			early := a.before.spots[y.id]
			since := early != nil && early.holds()
			earlier := early != nil && early.standing == schedule.WantsLock && early.asked.Before(x.asked)
			if y.holds() && !since && !earlier && x.clashes(y) {
				a.fault("job %d waits, and job %d, which asked later and is in its way, was let in", x.number, y.number)
			}
		}
	}
}

// needs are the resources of which a job takes a place each.
func (x *spot) needs() map[string]bool {
	n := map[string]bool{"all " + string(x.class): true}
	if x.class == record.Async {
		for _, pool := range x.pools {
			n["pool "+pool] = true
			for _, device := range hostDevices[pool] {
				n["device "+device] = true
			}
		}
	}
	return n
}

// room is how many places a resource has; 0 is no limit.
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

// checkPlaces counts the places, and holds that none is free for who is next.
func (a *auditor) checkPlaces(p *picture) {
	used := map[string]int{}
	var next []*spot
	for _, x := range p.spots {
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
		a.fault("%v run, counted are %v", used, p.used)
	}
	a.checkNext(p, next, used)
	a.checkBounds(p, used)
}

// checkNext holds that places are given in order, to whom they are free. Of a
// pool or device none is given past one who waits for it.
func (a *auditor) checkNext(p *picture, next []*spot, used map[string]int) {
	slices.SortFunc(next, func(x, y *spot) int { return cmp.Or(x.due.Compare(y.due), cmp.Compare(x.number, y.number)) })
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
			a.fault("job %d waits for a place, and there is one", x.number)
		}
		for r := range x.needs() {
			kept[r] = kept[r] || !strings.HasPrefix(r, "all ")
		}
	}
	if !slices.Equal(order, p.ready) {
		a.fault("jobs stand for places as %v, due are %v", p.ready, order)
	}
}

// checkBounds holds that nobody got a place beyond the limits. What ran before
// they were lowered may run on.
func (a *auditor) checkBounds(p *picture, used map[string]int) {
	if a.before == nil {
		return
	}
	came := map[string]bool{}
	for id, x := range p.spots {
		if was := a.before.spots[id]; x.standing == schedule.Running && (was == nil || was.standing != schedule.Running) {
			maps.Copy(came, x.needs())
		}
	}
	for r := range came {
		if !slices.ContainsFunc(a.bounds, func(l record.Limits) bool { return room(l, r) <= 0 || used[r] <= room(l, r) }) {
			a.fault("%d jobs have a place of %s, limits %+v", used[r], r, a.bounds)
		}
	}
}

// checkShares holds that those under a cap keep to it together.
func (a *auditor) checkShares(p *picture) {
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
		for _, x := range p.spots {
			if x.standing == schedule.Running && x.class == record.Async && !x.paused && x.needs()[r] {
				n, sum = n+1, sum+least(x.limit, x.part)
				if x.part == 0 {
					a.fault("job %d has no part of the cap of %s", x.number, r)
				}
			}
		}
		if sum > max(rate, n) {
			a.fault("%d jobs go at %d together, the cap of %s is %d", n, sum, r, rate)
		}
	}
	for _, x := range p.spots {
		capped := false
		for r := range x.needs() {
			capped = capped || caps[r] > 0
		}
		if x.part != 0 && !capped {
			a.fault("job %d has a part of %d of no cap", x.number, x.part)
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
func (a *auditor) checkViews(s *Supervisor, views []record.Job) {
	for _, v := range views {
		if v.Progress.Percent != nil {
			is, was := *v.Progress.Percent, a.percent[v.ID]
			if is < was || is > 99.9 && v.State != record.Succeeded {
				a.fault("job %d (%s) is seen at %v %%, was at %v", v.Number, v.State, is, was)
			}
			a.percent[v.ID] = is
		}
		if v.State == record.Queued && len(v.WaitingOn) == 0 && !a.goesOn(s, v.ID) {
			a.fault("job %d waits for nothing", v.Number)
		}
		if !v.State.Terminal() && v.Cancelable != (v.State != record.Finalizing && v.State != record.RollingBack) {
			a.fault("job %d (%s) is cancelable: %v", v.Number, v.State, v.Cancelable)
		}
		for _, b := range v.WaitingOn {
			if b.Holder != nil && b.Holder.ID == v.ID {
				a.fault("job %d waits for itself", v.Number)
			}
		}
	}
}

// checkMeasure holds percent against what an honest actor has done: by its plan
// the copy is 98 of 100, and 1 comes before it.
func (a *auditor) checkMeasure(p *picture, views []record.Job) {
	for _, v := range views {
		at, done := p.spots[v.ID], v.Progress
		if at == nil || at.role.Lies || v.State != record.Running || v.Phase == nil || v.Phase.Name != "copy" || done.Total == 0 || done.Percent == nil {
			continue
		}
		if want := 1 + 98*float64(done.Done)/float64(done.Total); math.Abs(*done.Percent-want) > 0.2 {
			a.fault("job %d has done %d of %d and is seen at %v %%, should be at %v %%", v.Number, done.Done, done.Total, *done.Percent, want)
		}
	}
}

// goesOn says that a queued job that waits for nothing is on its way.
func (a *auditor) goesOn(s *Supervisor, id string) bool {
	return a.h.ledger.until(func() bool {
		j, err := s.Job(id)
		return err == nil && (j.State != record.Queued || len(j.WaitingOn) > 0)
	})
}

// queueOrder says which of those that wait for locks after a restart do not
// stand in the order in which they came.
func (a *auditor) queueOrder(s *Supervisor, waited map[string]bool) (faults []string) {
	var waiting []*spot
	for _, x := range pictureOf(s, a.h.cfg.times.ageing).spots {
		if x.standing == schedule.WantsLock && waited[x.id] {
			waiting = append(waiting, x)
		}
	}
	slices.SortFunc(waiting, func(x, y *spot) int { return x.asked.Compare(y.asked) })
	if !slices.IsSortedFunc(waiting, func(x, y *spot) int { return cmp.Compare(x.number, y.number) }) {
		for _, x := range waiting {
			faults = append(faults, fmt.Sprintf("after a restart job %d waits out of order since %v", x.number, x.asked))
		}
	}
	return faults
}

// settled says which actors that obey have not come to what they were told:
// paused, and as fast as they may go.
func (a *auditor) settled(s *Supervisor) []string {
	var faults []string
	a.h.ledger.until(func() bool { faults = a.unsettled(s); return len(faults) == 0 })
	return faults
}

func (a *auditor) unsettled(s *Supervisor) (faults []string) {
	residents := census(filepath.Join(a.h.dir, "census"))
	p := pictureOf(s, a.h.cfg.times.ageing)
	for _, r := range residents {
		at := p.spots[r.job]
		j := s.find(r.job)
		if at == nil || j == nil || at.role.Work != forever || at.role.Mask != "" || !r.note.Go || r.note.Child || r.note.Settles {
			continue
		}
		state := j.shown.Load().rec.State
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
