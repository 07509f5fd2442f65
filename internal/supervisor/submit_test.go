package supervisor

import (
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"storaged/internal/record"
	"storaged/internal/store"
	"storaged/internal/supervisor/schedule"
)

func after(d time.Duration) *time.Duration { return &d }

func objects(words ...string) []record.Object {
	var out []record.Object
	for i := 0; i < len(words); i += 3 {
		out = append(out, record.Object{Pool: words[i], Volume: words[i+1], Mode: record.Mode(words[i+2])})
	}
	return out
}

func TestRefusalNamesTheHolder(t *testing.T) {
	r := newRig(t)
	holder := r.submit(request(fakeHelper("work")))
	r.working(holder.ID)
	req := request(fakeHelper("short"))
	req.LockWait = after(0)
	_, err := r.sup.Submit(r.ctx(), req)
	if record.CodeOf(err) != record.Busy {
		t.Fatalf("submitted: %v", err)
	}
	e := err.(*record.Error)
	if len(e.Holders) != 1 || e.Holders[0].Holder.Number != holder.Number || e.Holders[0].Holder.Owner.User != "alice" || e.Holders[0].Holder.Mode != record.ModeWrite {
		t.Errorf("holders are %+v", e.Holders)
	}
	if !strings.Contains(e.Message, "p/v is busy") || !strings.Contains(e.Message, "job 1") {
		t.Errorf("message is %q", e.Message)
	}
	if got := r.sup.Blockers(req); len(got) != 1 || got[0].Holder.ID != holder.ID {
		t.Errorf("dry run gives %+v", got)
	}
	if len(r.all()) != 1 {
		t.Error("the refused job has a record")
	}
	req.Objects = objects("p", "other", "W")
	j, err := r.sup.Submit(r.ctx(), req)
	if err != nil {
		t.Fatal(err)
	}
	r.ended(j.ID, record.Succeeded)
}

func TestNormalJobWaitsNotForEver(t *testing.T) {
	r := newRig(t, func(tt *Times) { tt.LockWait = 100 * time.Millisecond })
	holder := r.submit(request(fakeHelper("work")))
	req := request(fakeHelper("short"))
	req.Class = record.Normal
	late := r.submit(req)
	j := r.ended(late.ID, record.Failed)
	if j.Code() != record.Busy || len(j.Error.Holders) != 1 || j.Error.Holders[0].Holder.Number != holder.Number {
		t.Errorf("ended with %+v", j.Error)
	}
	req.LockWait = after(-1) // for ever
	patient := r.submit(req)
	req = request(fakeHelper("short"))
	req.LockWait = after(50 * time.Millisecond)
	r.ended(r.submit(req).ID, record.Failed)
	if _, err := r.sup.Cancel(holder.ID, uid1000, false); err != nil {
		t.Fatal(err)
	}
	r.ended(patient.ID, record.Succeeded)
}

func TestIdempotencyKey(t *testing.T) {
	r := newRig(t)
	req := request(fakeHelper("short"))
	req.Key, req.Digest = "k", "d1"
	var mu sync.Mutex
	var all sync.WaitGroup
	numbers := map[int64]bool{}
	for range 8 {
		all.Go(func() {
			j, err := r.sup.Submit(r.ctx(), req)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			numbers[j.Number] = true
		})
	}
	all.Wait()
	if len(numbers) != 1 {
		t.Fatalf("one key made jobs %v", numbers)
	}
	first := r.submit(req)
	r.ended(first.ID, record.Succeeded)
	r.again()
	if j := r.submit(req); j.ID != first.ID || j.State != record.Succeeded {
		t.Errorf("after a restart the key gives %d (%s)", j.Number, j.State)
	}
	req.Digest = "d2"
	if _, err := r.sup.Submit(r.ctx(), req); record.CodeOf(err) != record.KeyReused {
		t.Errorf("another request under the key: %v", err)
	}
	req.Owner.UID++
	if j := r.submit(req); j.ID == first.ID {
		t.Error("another user's key gives the first user's job")
	} else {
		r.ended(j.ID, record.Succeeded)
	}
}

// A request that came before Stop is answered before Stop returns, and its job
// is there for the next start.
func TestStopWaitsForWhoMakesAJob(t *testing.T) {
	r := newRig(t)
	inside, pass := make(chan struct{}), make(chan struct{})
	entered := sync.OnceFunc(func() { close(inside) })
	var made, early atomic.Bool
	req := request(fakeHelper("short"))
	req.Also = func(*store.Tx) error {
		entered()
		<-pass
		made.Store(true)
		return nil
	}
	var all sync.WaitGroup
	var j record.Job
	var failed error
	all.Go(func() { j, failed = r.sup.Submit(r.ctx(), req) })
	<-inside
	stopped := make(chan error)
	go func() {
		err := r.sup.Stop(r.ctx())
		early.Store(!made.Load())
		stopped <- err
	}()
	for r.sup.open() == nil { // Stop has begun
		runtime.Gosched()
	}
	close(pass)
	if err := <-stopped; err != nil || early.Load() {
		t.Errorf("stopped before the job was made: %v, %v", early.Load(), err)
	}
	all.Wait()
	if failed != nil {
		t.Fatal(failed)
	}
	r.sup = New(r.cfg, r.store, r.catalog, r.hub)
	r.start()
	r.ended(j.ID, record.Succeeded)
}

func TestQueueIsBounded(t *testing.T) {
	r := newRig(t)
	r.sup.SetLimits(record.Limits{Queued: 2})
	r.submit(request(fakeHelper("work")))
	r.submit(request(fakeHelper("short")))
	r.submit(request(fakeHelper("short")))
	if _, err := r.sup.Submit(r.ctx(), request(fakeHelper("short"))); record.CodeOf(err) != record.QueueFull {
		t.Errorf("submitted: %v", err)
	}
}

func TestNoJobIsTakenAsLongAsThereIsAReason(t *testing.T) {
	r := newRig(t)
	r.sup.Confine(record.ConfinedFully, record.Errorf(record.Unsupported, "the host is too old"))
	if _, err := r.sup.Submit(r.ctx(), request(fakeHelper("short"))); record.CodeOf(err) != record.Unsupported {
		t.Errorf("submitted: %v", err)
	}
	r.sup.Confine(record.ConfinedFully, nil)
	r.ended(r.submit(request(fakeHelper("short"))).ID, record.Succeeded)
}

// A job that was taken is not begun where its helper could not be confined any more.
func TestNoJobBeginsWhereHelpersCannotBeConfined(t *testing.T) {
	g := newGate(t)
	r := newRig(t)
	r.sup.SetLimits(record.Limits{Running: 1})
	first := r.submit(request(fakeHelper("work", g.path)))
	second := r.submit(request(fakeHelper("short")))
	r.sup.Confine(record.ConfinedFully, record.Errorf(record.Unsupported, "the host is too old"))
	g.open()
	r.ended(first.ID, record.Succeeded)
	if j := r.ended(second.ID, record.Failed); j.Error.Code != record.Unsupported || j.Helper != nil {
		t.Errorf("it ended with %v, helper %v", j.Error, j.Helper)
	}
}

func TestDrainBeginsNothingAndNamesWhatRuns(t *testing.T) {
	g := newGate(t)
	r := newRig(t)
	r.sup.SetLimits(record.Limits{Running: 1})
	req := request(fakeHelper("work", g.path))
	req.Key = "k"
	j := r.submit(req)
	slot := r.submit(request(fakeHelper("short"), objects("p", "other", "W")...))
	lock := r.submit(request(fakeHelper("short")))
	d := r.sup.Drain(true, root)
	if !d.On || d.Since == nil || d.By.User != "root" || !slices.Equal(d.Running, []int64{j.Number}) {
		t.Errorf("drain is %+v", d)
	}
	_, err := r.sup.Submit(r.ctx(), request(fakeHelper("short")))
	if record.CodeOf(err) != record.Draining || !strings.Contains(err.Error(), "by root since") {
		t.Errorf("submitted: %v", err)
	}
	if again := r.submit(req); again.ID != j.ID {
		t.Error("the key of a job that is there is refused")
	}
	g.open()
	r.ended(j.ID, record.Succeeded)
	if d := r.sup.Drained(); !d.On || len(d.Running) != 0 {
		t.Errorf("after the last job's end: %+v", d)
	}
	for _, id := range []string{slot.ID, lock.ID} {
		w, err := r.sup.Job(id)
		if err != nil || w.State != record.Queued || len(w.WaitingOn) != 1 || w.WaitingOn[0].For != "drain" {
			t.Errorf("job %d is %s and waits on %+v, %v", w.Number, w.State, w.WaitingOn, err)
		}
	}
	if d := r.sup.Drain(false, root); d.On || d.Since != nil {
		t.Errorf("taken back: %+v", d)
	}
	r.ended(slot.ID, record.Succeeded)
	r.ended(lock.ID, record.Succeeded)
}

// started gives the numbers of ended jobs in order of their start.
func started(r *rig, ids []string) (out []int64) {
	var jobs []record.Job
	for _, id := range ids {
		jobs = append(jobs, r.ended(id, record.Succeeded))
	}
	slices.SortFunc(jobs, func(a, b record.Job) int { return a.Started.Compare(*b.Started) })
	for _, j := range jobs {
		out = append(out, j.Number)
	}
	return out
}

func TestSlotsGoByPriorityThenFirstCome(t *testing.T) {
	g := newGate(t)
	r := newRig(t)
	r.sup.SetLimits(record.Limits{Running: 1})
	r.submit(request(fakeHelper("work", g.path)))
	var ids []string
	for i, p := range []record.Priority{record.Background, record.NormalPriority, record.Interactive, record.NormalPriority, record.Background} {
		req := request(fakeHelper("short"), objects("p", itoa(i), "W")...)
		req.Priority = p
		ids = append(ids, r.submit(req).ID)
	}
	j, err := r.sup.Job(ids[1])
	if err != nil || len(j.WaitingOn) != 1 || j.WaitingOn[0].For != "slot" || j.WaitingOn[0].Position != 2 {
		t.Errorf("waits on %+v, %v", j.WaitingOn, err)
	}
	queued, _, err := r.sup.Jobs(Query{State: func(s record.State) bool { return s == record.Queued }})
	for i, want := range []int{5, 3, 1, 2, 4} { // newest first
		if err != nil || len(queued) != 5 || queued[i].WaitingOn[0].Position != want {
			t.Fatalf("job %d of %d waits on %+v, %v; position should be %d", i, len(queued), queued[i].WaitingOn, err, want)
		}
	}
	if running, waiting, stuck := r.sup.Count(); running != 1 || waiting != 5 || stuck != 0 {
		t.Errorf("%d run, %d wait, %d cannot be killed", running, waiting, stuck)
	}
	if _, err := r.sup.SetPriority(ids[4], record.Interactive, uid1000); err != nil { // number 6
		t.Fatal(err)
	}
	g.open()
	if got := started(r, ids); !slices.Equal(got, []int64{4, 6, 3, 5, 2}) {
		t.Errorf("started in order %v", got)
	}
}

func TestSlotsPerPool(t *testing.T) {
	g1, g2 := newGate(t), newGate(t)
	r := newRig(t)
	r.sup.SetLimits(record.Limits{RunningPool: 1, PoolRunning: map[string]int{"big": 2}})
	first := r.submit(request(fakeHelper("work", g1.path), objects("a", "1", "W")...))
	second := r.submit(request(fakeHelper("work", g2.path), objects("big", "1", "W")...))
	both := r.submit(request(fakeHelper("short"), objects("a", "2", "R", "big", "2", "W")...))
	other := r.submit(request(fakeHelper("short"), objects("c", "1", "W")...))
	normal := request(fakeHelper("short"), objects("a", "3", "M")...)
	normal.Class = record.Normal
	r.ended(other.ID, record.Succeeded)
	r.ended(r.submit(normal).ID, record.Succeeded) // needs no slot in the pool
	j, err := r.sup.Job(both.ID)
	if err != nil || j.State != record.Queued || j.WaitingOn[0].For != "slot" || j.WaitingOn[0].Object.Pool != "a" {
		t.Errorf("copy is %s, waits on %+v", j.State, j.WaitingOn)
	}
	g1.open()
	r.ended(first.ID, record.Succeeded)
	r.ended(both.ID, record.Succeeded)
	g2.open()
	r.ended(second.ID, record.Succeeded)
}

// Who has waited for the end of a job gets its locks without waiting.
func TestLocksAreFreeWhenAJobHasEnded(t *testing.T) {
	r := newRig(t)
	for range 20 {
		req := request(fakeHelper("short"), objects("p", "v", "W")...)
		req.LockWait = new(time.Duration)
		r.ended(r.submit(req).ID, record.Succeeded)
	}
}

// A job that ends while a list is read is in it as it has ended.
func TestListsShowJobsThatEndMeanwhile(t *testing.T) {
	r := newRig(t)
	g := newGate(t)
	id := r.submit(request(fakeHelper("work", g.path))).ID
	r.working(id)
	end := func(*store.JobHead) bool {
		g.open()
		r.ended(id, record.Succeeded)
		return true
	}
	page, _, err := r.sup.Jobs(Query{Head: end})
	if err != nil || len(page) != 1 || page[0].State != record.Succeeded || page[0].Ended == nil || page[0].Progress.Done == 0 {
		t.Errorf("listed are %+v, %v", page, err)
	}
	if len(r.sup.lists) != 0 {
		t.Errorf("%d lists are being read", len(r.sup.lists))
	}
}

func TestListsPageNewestFirst(t *testing.T) {
	r := newRig(t)
	for i := range 5 {
		r.ended(r.submit(request(fakeHelper("short"), objects("p", itoa(i), "W")...)).ID, record.Succeeded)
	}
	live := r.submit(request(fakeHelper("work")))
	r.working(live.ID)
	var got []int64
	for cursor, pages := "", 0; ; pages++ {
		page, next, err := r.sup.Jobs(Query{Limit: 2, Cursor: cursor, Head: func(h *store.JobHead) bool { return h.Number != 3 }})
		if err != nil {
			t.Fatal(err)
		}
		for _, j := range page {
			got = append(got, j.Number)
			if j.WaitingOn == nil || j.Labels == nil {
				t.Errorf("job %d has absent lists", j.Number)
			}
		}
		if next == nil {
			break
		}
		cursor = *next
	}
	if !slices.Equal(got, []int64{6, 5, 4, 2, 1}) {
		t.Errorf("pages give %v", got)
	}
	if _, _, err := r.sup.Jobs(Query{Cursor: "x"}); record.CodeOf(err) != record.Invalid {
		t.Errorf("bad cursor: %v", err)
	}
	if l := r.sup.Live(); len(l) != 1 || l[0].ID != live.ID || l[0].Progress.Done == 0 {
		t.Errorf("live jobs are %+v", l)
	}
}

func TestHistoryGivesTheNextEstimate(t *testing.T) {
	r := newRig(t)
	g := newGate(t)
	id := r.submit(request(fakeHelper("work", g.path))).ID
	live := r.working(id)
	live = r.until(id, func(j record.Job) bool { return j.ElapsedS > live.ElapsedS+1 }) // a shorter one teaches nothing
	r.until(id, func(j record.Job) bool { return j.Progress.Done > live.Progress.Done })
	g.open()
	r.ended(id, record.Succeeded)
	p := r.sup.prior(r.all()[0].Kind, r.all()[0].Objects)
	if p.Rate <= 0 {
		t.Errorf("prior rate is %v", p.Rate)
	}
}

func TestGrantedJobHasNoDeadlineAfterARestart(t *testing.T) {
	past := time.Now().Add(-time.Hour)
	waiting := &job{rec: store.Job{Deadline: &past}}
	if waiting.patience() != &past {
		t.Error("a job that never had its locks waits beyond its deadline")
	}
	granted := &job{rec: store.Job{Deadline: &past, Granted: true}}
	if granted.patience() != nil {
		t.Error("a job that had its locks gives up waiting for them")
	}
}

func TestSlotsPerDevice(t *testing.T) {
	g := newGate(t)
	r := stillRig(t, t.TempDir())
	r.sup.SetLimits(record.Limits{RunningDevice: 1, DeviceRunning: map[string]int{"8:16": 2}})
	r.sup.SetDevices("a", "8:0")
	r.sup.SetDevices("b", "8:0", "8:16")
	r.sup.SetDevices("c", "8:16")
	r.sup.SetDevices("d", "8:0")
	r.start()
	first := r.submit(request(fakeHelper("work", g.path), objects("a", "1", "R", "b", "1", "W")...)) // 8:0 once, though both ends lie there
	r.working(first.ID)
	waits := r.submit(request(fakeHelper("short"), objects("d", "2", "W")...))
	r.ended(r.submit(request(fakeHelper("short"), objects("c", "1", "W")...)).ID, record.Succeeded)
	r.ended(r.submit(request(fakeHelper("short"), objects("nfs", "1", "W")...)).ID, record.Succeeded)
	j, err := r.sup.Job(waits.ID)
	if err != nil || j.State != record.Queued || len(j.WaitingOn) != 1 || j.WaitingOn[0].For != "slot" || j.WaitingOn[0].Device != "8:0" || j.WaitingOn[0].Object != nil {
		t.Fatalf("the second job on 8:0 is %s, waits on %+v, %v", j.State, j.WaitingOn, err)
	}
	r.sup.SetDevices("d", "8:32") // the pool was moved
	r.ended(waits.ID, record.Succeeded)
	onB := r.submit(request(fakeHelper("short"), objects("b", "2", "W")...))
	if j, err := r.sup.Job(onB.ID); err != nil || j.State != record.Queued || j.WaitingOn[0].Device != "8:0" {
		t.Fatalf("a job beside the one that still runs on 8:0 is %s, waits on %+v, %v", j.State, j.WaitingOn, err)
	}
	g.open()
	r.ended(first.ID, record.Succeeded)
	r.ended(onB.ID, record.Succeeded)
}

// Short work waits for short work alone, and nothing but its bytes makes it short.
func TestShortWorkHasSlotsOfItsOwn(t *testing.T) {
	r := newRig(t)
	r.sup.SetLimits(record.Limits{RunningDevice: 1})
	r.sup.SetDevices("p", "8:0")
	long, short := newGate(t), newGate(t)
	moving := func(name string, bytes int64, limit *int64, do string, args ...string) record.Job {
		req := request(fakeHelper(do, args...), objects("p", name, "W")...)
		req.Moves, req.Limit = bytes, limit
		return r.submit(req)
	}
	copying := moving("copy", 1<<40, nil, "work", long.path)
	r.working(copying.ID)
	r.ended(moving("volume", 1<<20, nil, "short").ID, record.Succeeded)
	first := moving("first", schedule.ShortBytes, nil, "work", short.path)
	r.working(first.ID)
	second := moving("second", 1<<20, nil, "short")
	rest := []record.Job{
		moving("unknown", 0, nil, "short"), moving("large", schedule.ShortBytes+1, nil, "short"), moving("slow", 1<<20, new(int64(1)), "short"),
	}
	for _, waits := range append(rest, second) {
		j, err := r.sup.Job(waits.ID)
		if err != nil || j.State != record.Queued || len(j.WaitingOn) != 1 || j.WaitingOn[0].Device != "8:0" || j.WaitingOn[0].Short != (j.ID == second.ID) {
			t.Errorf("%v is %s, waits on %+v, %v", j.Objects, j.State, j.WaitingOn, err)
		}
	}
	if _, err := r.sup.SetLimit(first.ID, new(int64(1)), root); err != nil { // now it is long
		t.Fatal(err)
	}
	r.ended(second.ID, record.Succeeded)
	short.open()
	long.open()
	for _, j := range append(rest, first, copying) {
		r.ended(j.ID, record.Succeeded)
	}
}

// Who hears of a job can cancel it.
func TestJobThatIsAnnouncedIsFound(t *testing.T) {
	r := newRig(t)
	stream := r.hub.Subscribe(r.ctx(), 0)
	done := make(chan error)
	go func() {
		for e := range stream {
			if e.Type == "job.created" {
				_, err := r.sup.Cancel(e.Job.ID, root, false)
				done <- err
				return
			}
		}
	}()
	id := r.submit(request(fakeHelper("work"))).ID
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	r.ended(id, record.Canceled)
}

// What is to be durable with a job is, or the job is not.
func TestAlsoIsRecordedWithTheJob(t *testing.T) {
	r := newRig(t)
	req := request(fakeHelper("short"))
	req.Key = "k"
	req.Also = func(tx *store.Tx) error {
		return tx.PutPool(&store.Pool{Pool: record.Pool{Name: "new", UUID: "u"}})
	}
	j := r.submit(req)
	r.ended(j.ID, record.Succeeded)
	if err := r.store.View(func(tx *store.Tx) error { _, err := tx.Pool("new"); return err }); err != nil {
		t.Error(err)
	}
	req.Also = func(*store.Tx) error { return record.Errorf(record.Exists, "not twice") }
	if again := r.submit(req); again.ID != j.ID {
		t.Error("the same request is another job")
	}
	req.Key, req.LockWait = "other", after(0)
	if _, err := r.sup.Submit(r.ctx(), req); record.CodeOf(err) != record.Exists {
		t.Errorf("submitted: %v", err)
	}
	if n := len(r.all()); n != 1 {
		t.Errorf("%d jobs are recorded", n)
	}
	r.ended(r.submit(request(fakeHelper("short"))).ID, record.Succeeded) // the locks are free
}
