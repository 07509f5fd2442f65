package locks

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"storaged/internal/record"
)

// objects parses "R base", "W vm" or, for the pool itself, "D ." pairs; all in
// pool p.
func objects(words ...string) []record.Object {
	var out []record.Object
	for i := 0; i < len(words); i += 2 {
		o := record.Object{Pool: "p", Volume: words[i+1], Mode: record.Mode(words[i])}
		if o.Volume == "." {
			o.Volume = ""
		}
		out = append(out, o)
	}
	return out
}

func ask(id string, words ...string) Ask { return Ask{ID: id, Objects: objects(words...)} }

func visit(id string, words ...string) Ask {
	return Ask{ID: id, Objects: objects(words...), Visits: true}
}

func granted(t testing.TB, m *Manager, a Ask) {
	t.Helper()
	if !m.Ask(a) {
		t.Fatalf("%s waits for %v", a.ID, m.Blockers(a.ID, All))
	}
}

func waits(t testing.TB, m *Manager, a Ask) {
	t.Helper()
	if m.Ask(a) {
		t.Fatalf("%s was granted %v", a.ID, a.Objects)
	}
}

func released(t *testing.T, m *Manager, id string, want ...string) {
	t.Helper()
	if got := m.Release(id).Granted; !slices.Equal(got, want) {
		t.Fatalf("release of %s grants %v, want %v", id, got, want)
	}
}

func TestAllObjectsAtOnceOrNone(t *testing.T) {
	m := New()
	granted(t, m, ask("1", "W", "b"))
	waits(t, m, ask("2", "R", "a", "R", "b"))
	if m.Held("2") != nil {
		t.Error("a waiting job holds something")
	}
	released(t, m, "1", "2")
	if got := m.Held("2"); len(got) != 2 {
		t.Errorf("job 2 holds %v", got)
	}
}

func TestReadersDoNotStarveAWriter(t *testing.T) {
	m := New()
	granted(t, m, ask("r1", "R", "v"))
	waits(t, m, ask("w", "W", "v"))
	waits(t, m, ask("r2", "R", "v")) // came after the writer
	granted(t, m, ask("r3", "R", "other"))
	granted(t, m, ask("q", "Q", "v"))
	released(t, m, "r1", "w")
	released(t, m, "w", "r2")
}

func TestVolumeJobsDoNotStarveAPoolStop(t *testing.T) {
	m := New()
	granted(t, m, ask("clone", "R", "a", "W", "b"))
	waits(t, m, ask("stop", "D", "."))
	waits(t, m, ask("create", "W", "c"))
	granted(t, m, ask("show", "Q", "a"))
	released(t, m, "clone", "stop")
	released(t, m, "stop", "create")
}

func TestRefreshGoesWithVolumeJobs(t *testing.T) {
	m := New()
	granted(t, m, ask("wipe", "W", "v"))
	granted(t, m, ask("refresh", "M", "."))
	granted(t, m, ask("delete", "D", "u"))
	waits(t, m, ask("refresh2", "M", "."))
	waits(t, m, ask("stop", "D", "."))
}

func TestGivingUpLetsTheNextPass(t *testing.T) {
	m := New()
	granted(t, m, ask("r1", "R", "v"))
	waits(t, m, ask("w", "W", "v"))
	waits(t, m, ask("r2", "R", "v"))
	released(t, m, "w", "r2")
}

func TestBlockersSayWhoAndWhere(t *testing.T) {
	m := New()
	granted(t, m, ask("reader", "R", "v"))
	waits(t, m, ask("wipe", "W", "v"))
	waits(t, m, ask("delete", "D", "v"))
	want := []Block{
		{Asked: objects("D", "v")[0], Held: objects("R", "v")[0], Holder: "reader", Position: 2},
		{Asked: objects("D", "v")[0], Held: objects("W", "v")[0], Holder: "wipe", Waiting: true, Position: 2},
	}
	if got := m.Blockers("delete", All); !slices.Equal(got, want) {
		t.Errorf("blockers are %+v, want %+v", got, want)
	}
	if got := m.Probe(ask("other", "D", "v"), All); len(got) != 3 || got[0].Position != 3 {
		t.Errorf("probe gives %+v", got)
	}
	if got := m.Try(ask("other", "D", "v"), All); len(got) != 3 {
		t.Errorf("try gives %+v", got)
	}
	released(t, m, "reader", "wipe")
	released(t, m, "wipe", "delete")
	if got := m.Blockers("delete", All); got != nil {
		t.Errorf("a holder is blocked by %v", got)
	}
}

func TestPoolInTheWayIsNamed(t *testing.T) {
	m := New()
	granted(t, m, ask("stop", "D", "."))
	got := m.Try(ask("clone", "R", "a", "W", "b"), All)
	if len(got) != 2 || got[0].Held != objects("D", ".")[0] || got[0].Asked != objects("R", "a")[0] || got[1].Asked != objects("W", "b")[0] {
		t.Errorf("blocked by %+v", got)
	}
}

func TestTryAndProbeLeaveNoTrace(t *testing.T) {
	m := New()
	granted(t, m, ask("r", "R", "v"))
	m.Try(ask("w", "W", "v"), All)
	m.Probe(ask("r2", "R", "v"), All)
	granted(t, m, ask("r3", "R", "v"))
	m.Release("r")
	m.Release("r3")
	if len(m.claims)+len(m.stakes)+len(m.members)+len(m.waiting) != 0 {
		t.Errorf("table is not empty: %+v", m)
	}
}

func TestAskingTwicePanics(t *testing.T) {
	m := New()
	granted(t, m, ask("1", "R", "v"))
	defer func() {
		if recover() == nil {
			t.Error("the second ask passed")
		}
	}()
	m.Ask(ask("1", "R", "u"))
}

func TestWindowLetsInWhatItsMaskNames(t *testing.T) {
	m := New()
	granted(t, m, ask("evacuate", "W", "."))
	waits(t, m, visit("resize", "G", "v"))
	waits(t, m, visit("delete", "D", "u"))
	waits(t, m, ask("clone", "R", "x")) // no visitor
	change, err := m.OpenWindow("evacuate", []record.Mode{record.ModeGrow, record.ModeRead})
	if err != nil || !slices.Equal(change.Granted, []string{"resize"}) {
		t.Fatalf("opening grants %v, %v", change, err)
	}
	granted(t, m, visit("read", "R", "y"))
	if got := m.CloseWindow("evacuate"); !slices.Equal(got, []string{"resize", "read"}) {
		t.Fatalf("inside are %v", got)
	}
	waits(t, m, visit("late", "R", "z"))
	if c := m.Release("resize"); c.Vacated != nil {
		t.Errorf("vacated with a visitor inside: %v", c)
	}
	if c := m.Release("read"); !slices.Equal(c.Vacated, []string{"evacuate"}) || c.Granted != nil {
		t.Errorf("the last visitor's release gives %+v", c)
	}
	released(t, m, "evacuate", "delete", "clone", "late")
}

func TestVisitorsMeetEachOther(t *testing.T) {
	m := New()
	granted(t, m, ask("verify", "R", "."))
	_, err := m.OpenWindow("verify", []record.Mode{record.ModeWrite})
	if err != nil {
		t.Fatal(err)
	}
	granted(t, m, visit("w1", "W", "v"))
	waits(t, m, visit("w2", "W", "v"))
	released(t, m, "w1", "w2")
}

func TestVisitorWaitsForEarlierAskers(t *testing.T) {
	m := New()
	granted(t, m, ask("evacuate", "W", "."))
	waits(t, m, ask("wipe", "W", "v"))
	if _, err := m.OpenWindow("evacuate", []record.Mode{record.ModeGrow}); err != nil {
		t.Fatal(err)
	}
	waits(t, m, visit("resize", "G", "v")) // was asked for after the wipe
	granted(t, m, visit("resize2", "G", "u"))
}

func TestClosingWithNobodyInsideIsImmediate(t *testing.T) {
	m := New()
	granted(t, m, ask("verify", "R", "."))
	if _, err := m.OpenWindow("verify", []record.Mode{record.ModeWrite}); err != nil {
		t.Fatal(err)
	}
	granted(t, m, visit("w", "W", "v"))
	m.Release("w")
	if inside := m.CloseWindow("verify"); inside != nil {
		t.Errorf("inside are %v", inside)
	}
}

// Two clones of one volume, which somebody wants to grow: both are called, and
// neither while a job that opensOnCall nothing is in the way too.
func TestWindowsAreWantedWhenAllInTheWayHear(t *testing.T) {
	m := New()
	grow := []record.Mode{record.ModeGrow}
	for _, id := range []string{"one", "two"} {
		granted(t, m, ask(id, "R", "base", "W", id))
		m.OnCall(id, grow)
	}
	wanted := func(want bool) {
		t.Helper()
		for _, id := range []string{"one", "two"} {
			if got := m.Wanted(id); got != want {
				t.Errorf("a window of %s is wanted: %v", id, got)
			}
		}
	}
	wanted(false)
	waits(t, m, visit("resize", "G", "base"))
	wanted(true)
	if c, err := m.OpenWindow("one", grow); err != nil || c.Granted != nil {
		t.Fatalf("one of two windows grants %v, %v", c, err)
	}
	wanted(true)
	m.OnCall("two", nil)
	wanted(false)
	m.OnCall("two", grow)
	if c, err := m.OpenWindow("two", grow); err != nil || !slices.Equal(c.Granted, []string{"resize"}) {
		t.Fatalf("both windows grant %v, %v", c, err)
	}
	wanted(false)
}

func TestEndOfTheHolderSparesItsVisitors(t *testing.T) {
	m := New()
	granted(t, m, ask("evacuate", "W", "."))
	if _, err := m.OpenWindow("evacuate", []record.Mode{record.ModeRead}); err != nil {
		t.Fatal(err)
	}
	granted(t, m, visit("r", "R", "v"))
	waits(t, m, ask("stop", "D", "."))
	released(t, m, "evacuate")
	released(t, m, "r", "stop")
}

func TestOnlyAHolderThatIsNoVisitorOpensAWindow(t *testing.T) {
	m := New()
	granted(t, m, visit("v", "W", "v"))
	waits(t, m, ask("w", "W", "v"))
	for _, id := range []string{"v", "w", "nobody"} {
		if _, err := m.OpenWindow(id, nil); err == nil {
			t.Errorf("%s opened a window", id)
		}
	}
}

func TestRestoreTakesWhatWasHeld(t *testing.T) {
	for _, visitorFirst := range []bool{false, true} {
		m := New()
		list := []Ask{ask("evacuate", "W", "."), visit("resize", "G", "v")}
		if visitorFirst {
			slices.Reverse(list)
		}
		for _, a := range list {
			if err := m.Restore(a); err != nil {
				t.Fatal(err)
			}
		}
		waits(t, m, visit("read", "R", "u")) // no window is open
		if inside := m.CloseWindow("evacuate"); !slices.Equal(inside, []string{"resize"}) {
			t.Errorf("inside are %v", inside)
		}
		if c := m.Release("resize"); !slices.Equal(c.Vacated, []string{"evacuate"}) {
			t.Errorf("release gives %+v", c)
		}
	}
}

func TestRestoreRefusesWhatCannotHaveBeen(t *testing.T) {
	m := New()
	if err := m.Restore(ask("1", "W", "v")); err != nil {
		t.Fatal(err)
	}
	if err := m.Restore(ask("2", "R", "v")); err == nil {
		t.Error("two jobs hold what excludes each other")
	}
	released(t, m, "1")
	granted(t, m, ask("2", "R", "v"))
	if err := m.Restore(visit("3", "D", ".")); err == nil {
		t.Error("who has the whole pool is taken for a visitor")
	}
}

// TestHammer lets many goroutines hold, visit and open windows; what each
// holds is checked against all others from outside of the manager.
func TestHammer(t *testing.T) {
	h := &hammer{m: New(), wake: map[string]chan struct{}{}, holds: map[string]Ask{}}
	var all sync.WaitGroup
	for g := range 16 {
		all.Go(func() {
			for i := range 200 {
				h.round(t, g, i)
			}
		})
	}
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("deadlock")
	}
	if m := h.m; len(m.claims)+len(m.stakes)+len(m.members)+len(m.waiting) != 0 {
		t.Errorf("%d claims are left", len(m.claims))
	}
}

// hammer serialises the manager's calls with its own bookkeeping, as its owner
// in the daemon does; the goroutines' order is what varies.
type hammer struct {
	mu    sync.Mutex
	m     *Manager
	wake  map[string]chan struct{} // of those that wait, or whose window is to be left
	holds map[string]Ask
}

func (h *hammer) round(t *testing.T, g, i int) {
	id := fmt.Sprintf("%d-%d", g, i)
	modes := []string{"Q", "R", "R", "R", "M", "G", "W", "D"}
	a := ask(id, modes[(g*7+i)%8], fmt.Sprint("v", (g+i)%3), modes[(g+i*3)%8], fmt.Sprint("u", i%2))
	a.Visits = g%2 == 0
	if g%5 == 0 && i%9 == 0 {
		a = ask(id, modes[i%8], ".")
	}
	h.hold(t, a)
	if !a.Visits {
		h.window(t, a)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.holds, id)
	h.tell(h.m.Release(id))
}

// hold returns when a is held.
func (h *hammer) hold(t *testing.T, a Ask) {
	h.mu.Lock()
	if h.m.Ask(a) {
		h.enter(t, a)
		h.mu.Unlock()
		return
	}
	wake := make(chan struct{})
	h.wake[a.ID] = wake
	h.mu.Unlock()
	<-wake
	h.mu.Lock()
	h.enter(t, a)
	h.mu.Unlock()
}

// window opens and closes a's window, and checks that nobody is left inside.
func (h *hammer) window(t *testing.T, a Ask) {
	h.mu.Lock()
	change, err := h.m.OpenWindow(a.ID, []record.Mode{record.ModeMeta, record.ModeGrow, record.ModeRead})
	if err != nil {
		t.Error(err)
	}
	h.tell(change)
	h.mu.Unlock()
	h.mu.Lock()
	wake := make(chan struct{})
	if inside := h.m.CloseWindow(a.ID); len(inside) == 0 {
		close(wake)
	} else {
		h.wake[a.ID] = wake
	}
	h.mu.Unlock()
	<-wake
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, b := range h.holds {
		if b.ID != a.ID && clash(a, b) && !slices.Contains(h.m.Visitors(b.ID), a.ID) {
			t.Errorf("%s is still beside %s after its window has closed", b.ID, a.ID)
		}
	}
}

// enter notes that a is held; mu is held.
func (h *hammer) enter(t *testing.T, a Ask) {
	for _, b := range h.holds {
		if clash(a, b) && a.Visits == b.Visits {
			t.Errorf("%s holds %v beside %s with %v", a.ID, a.Objects, b.ID, b.Objects)
		}
	}
	h.holds[a.ID] = a
}

func (h *hammer) tell(c Change) {
	for _, id := range append(c.Granted, c.Vacated...) {
		close(h.wake[id])
		delete(h.wake, id)
	}
}

func clash(a, b Ask) bool {
	for _, x := range a.Objects {
		for _, y := range b.Objects {
			if !Compatible(x, y) {
				return true
			}
		}
	}
	return false
}

// queueOn gives a table in which one holds v and n wait for it.
func queueOn(t testing.TB, n int) *Manager {
	m := New()
	granted(t, m, ask("holder", "W", "v"))
	for i := range n {
		waits(t, m, ask(fmt.Sprint("w", i), "W", "v"))
	}
	return m
}

// Of those who are not named nothing is made: what an answer costs does not
// grow with the queue.
func TestALongQueueIsNotSpelledOut(t *testing.T) {
	allocations := func(n int) float64 {
		m := queueOn(t, n)
		last := fmt.Sprint("w", n-1)
		if got := m.Blockers(last, Most{16, 1}); len(got) != 2 || got[0].Holder != "holder" || got[1].Holder != "w0" || got[1].Position != n {
			t.Fatalf("of %d in the way %+v are named", n, got)
		}
		return testing.AllocsPerRun(10, func() { m.Blockers(last, Most{16, 1}) })
	}
	if few, many := allocations(10), allocations(3000); many > few {
		t.Errorf("an answer about 3000 takes %.0f allocations, about 10 %.0f", many, few)
	}
}

func BenchmarkBlockersOf100Behind2900(b *testing.B) {
	m := queueOn(b, 3000)
	for b.Loop() {
		for i := range 100 {
			m.Blockers(fmt.Sprint("w", 2999-i), Most{16, 1})
		}
	}
}
