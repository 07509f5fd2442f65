package supervisor

import (
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"storaged/internal/record"
)

// TestModel lets random clients submit, cancel, pause, resume, wait and
// restart the supervisor, with helpers that end in every way, and checks after
// each step what must hold always. What must hold at the end is checked by the
// rig.
func TestModel(t *testing.T) {
	argvs := map[string][]string{
		"short": act("short"), "fail": act("fail"), "dies": act("exitWithout", "2"), "work": act("idle"),
	}
	rapid.Check(t, func(rt *rapid.T) {
		r, finish := bareRig(t, t.TempDir())
		defer finish()
		r.cfg.Limits = record.Limits{Running: 3, RunningPool: 2, RunningDevice: 1, DeviceRunning: map[string]int{"8:0": 2}}
		r.sup.SetLimits(r.cfg.Limits)
		r.start()
		m := &model{r: r, argvs: argvs, seen: map[string]record.Job{}}
		rt.Repeat(map[string]func(*rapid.T){
			"submit":  m.submit,
			"cancel":  m.cancel,
			"pause":   m.pause,
			"resume":  m.resume,
			"restart": m.restart,
			"drain":   m.drain,
			"device":  m.device,
			"":        m.check,
		})
	})
}

type model struct {
	r     *rig
	argvs map[string][]string
	ids   []string
	seen  map[string]record.Job // as last looked at
}

func (m *model) submit(t *rapid.T) {
	kind := rapid.SampledFrom([]string{"short", "fail", "dies", "work"}).Draw(t, "helper")
	mode := rapid.SampledFrom([]string{"R", "W", "M", "D"}).Draw(t, "mode")
	volume := rapid.SampledFrom([]string{"a", "b", ""}).Draw(t, "volume")
	req := request(m.argvs[kind], record.Object{Pool: "p", Volume: volume, Mode: record.Mode(mode)})
	req.Priority = rapid.SampledFrom([]record.Priority{record.Interactive, record.Medium, record.Background}).Draw(t, "class")
	if rapid.IntRange(0, 3).Draw(t, "nowait") == 0 {
		req.LockWait = after(0)
	}
	j, err := m.r.sup.Submit(m.r.ctx(), req)
	switch {
	case record.CodeOf(err) == record.Draining && m.r.sup.Drained().On, record.CodeOf(err) == record.Busy && len(err.(*record.Error).Holders) > 0:
		return
	case err != nil:
		t.Fatalf("submit: %v", err)
	}
	m.ids = append(m.ids, j.ID)
}

// one draws a job, "" when there is none.
func (m *model) one(t *rapid.T) string {
	if len(m.ids) == 0 {
		return ""
	}
	return rapid.SampledFrom(m.ids).Draw(t, "job")
}

func (m *model) verb(t *rapid.T, err error) {
	if err != nil && record.CodeOf(err) != record.WrongState {
		t.Fatalf("verb: %v", err)
	}
}

func (m *model) cancel(t *rapid.T) {
	if id := m.one(t); id != "" {
		_, err := m.r.sup.Cancel(id, uid1000, rapid.Bool().Draw(t, "now"))
		m.verb(t, err)
		if rapid.Bool().Draw(t, "wait") && err == nil {
			if j, err := m.r.sup.Wait(m.r.ctx(), id); err != nil || !j.State.Terminal() {
				t.Fatalf("a canceled job is %s, %v", j.State, err)
			}
		}
	}
}

func (m *model) pause(t *rapid.T) {
	if id := m.one(t); id != "" {
		_, err := m.r.sup.Pause(id, uid1000)
		m.verb(t, err)
	}
}

func (m *model) resume(t *rapid.T) {
	if id := m.one(t); id != "" {
		_, err := m.r.sup.Resume(id, uid1000)
		m.verb(t, err)
	}
}

func (m *model) restart(t *rapid.T) {
	if rapid.IntRange(0, 9).Draw(t, "restart") == 0 {
		m.r.again()
	}
}

func (m *model) drain(t *rapid.T) { m.r.sup.Drain(rapid.Bool().Draw(t, "on"), root) }

func (m *model) device(t *rapid.T) {
	m.r.sup.SetDevices("p", rapid.SampledFrom([][]string{nil, {"8:0"}, {"8:16"}, {"8:0", "8:16"}}).Draw(t, "devices")...)
}

// check looks at every job: what has ended stays as it is, percent never falls
// while the supervisor lives, and no two jobs run that exclude each other.
func (m *model) check(t *rapid.T) {
	jobs, _, err := m.r.sup.Jobs(Query{})
	if err != nil {
		t.Fatal(err)
	}
	if len(jobs) != len(m.ids) {
		t.Fatalf("%d jobs, submitted were %d", len(jobs), len(m.ids))
	}
	for _, j := range jobs {
		was, ok := m.seen[j.ID]
		if ok && was.State.Terminal() && (j.State != was.State || !j.Ended.Equal(*was.Ended)) {
			t.Fatalf("job %d had ended %s and is %s", j.Number, was.State, j.State)
		}
		if j.State == record.Queued && len(j.WaitingOn) == 0 {
			m.granted(t, j)
		}
		m.seen[j.ID] = j
	}
	m.checkLocks(t)
}

// granted says that a queued job that waits for nothing is on its way.
func (m *model) granted(t *rapid.T, j record.Job) {
	now, err := m.r.sup.Job(j.ID)
	if err != nil {
		t.Fatal(err)
	}
	if now.State == record.Queued && len(now.WaitingOn) == 0 {
		m.r.until(j.ID, func(j record.Job) bool { return j.State != record.Queued || len(j.WaitingOn) > 0 })
	}
}

func (m *model) checkLocks(t *rapid.T) {
	q := m.r.sup.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	used := map[resource]int{}
	for id, p := range q.places {
		if p.standing != isRunning {
			continue
		}
		for _, r := range q.needsOf(p.class, p.pools) {
			used[r]++
		}
		if !slices.Equal(q.locks.Held(id), p.objects) {
			t.Fatalf("job %d runs and holds %v of %v", p.number, q.locks.Held(id), p.objects)
		}
	}
	// No limit per device: jobs may have been there before the pool was.
	if !maps.Equal(used, q.used) || used[resource{ofAll, string(record.Async)}] > 3 || used[resource{ofPool, "p"}] > 2 {
		t.Fatalf("%v run, counted are %v", used, q.used)
	}
	for _, id := range m.ids {
		if q.places[id] == nil && q.locks.Held(id) != nil {
			t.Fatalf("job %s has left the queue and holds locks", id)
		}
	}
}
