package supervisor

import (
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"storaged/internal/record"
)

// witness keeps what it is told.
type witness struct {
	mu   sync.Mutex
	seen map[string]Observation
	news chan string
	died []string // causes, of all helpers
}

func (w *witness) HelperDied(_ record.Job, cause *record.Error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.died = append(w.died, cause.Message)
}

func (w *witness) JobEnded(o Observation) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, twice := w.seen[o.Job.ID]; twice {
		panic("told twice")
	}
	w.seen[o.Job.ID] = o
	w.news <- o.Job.ID
}

// of waits for the observation of a job.
func (w *witness) of(t *testing.T, id string) Observation {
	t.Helper()
	for {
		w.mu.Lock()
		o, ok := w.seen[id]
		w.mu.Unlock()
		if ok {
			return o
		}
		select {
		case <-w.news:
		case <-time.After(patience):
			t.Fatal("nothing is told of the job")
		}
	}
}

func watchedRig(t *testing.T) (*rig, *witness) {
	t.Helper()
	r := stillRig(t, t.TempDir())
	w := &witness{seen: map[string]Observation{}, news: make(chan string, 100)}
	r.cfg.Observer = w
	r.sup = New(r.cfg, r.store, r.catalog, r.hub)
	r.start()
	return r, w
}

func TestObservationOfAJobThatWaited(t *testing.T) {
	r, w := watchedRig(t)
	first := r.submit(request(fakeHelper("work"))).ID
	r.working(first)
	second := r.submit(request(fakeHelper("short"))).ID
	third := r.submit(request(fakeHelper("short"))).ID
	if got := r.sup.Census(); got[Tally{record.VolumeWipe, record.Running}].Jobs != 1 || got[Tally{record.VolumeWipe, record.Queued}] != (Census{Jobs: 2}) {
		t.Errorf("census is %v", got)
	}
	if _, err := r.sup.Cancel(third, uid1000, false); err != nil {
		t.Fatal(err)
	}
	if _, err := r.sup.Cancel(first, uid1000, false); err != nil {
		t.Fatal(err)
	}
	o := w.of(t, first)
	if o.Job.State != record.Canceled || o.LockWaited || o.Errors != nil {
		t.Errorf("of the canceled job: %+v", o)
	}
	if o.CancelSent == nil || o.Stopped == nil || *o.CancelSent <= 0 || *o.CancelSent > *o.Stopped || *o.Stopped > patience {
		t.Errorf("told after %v, stopped after %v", o.CancelSent, o.Stopped)
	}
	j := r.ended(second, record.Succeeded)
	o = w.of(t, second)
	if !o.LockWaited || o.Queued != j.Started.Sub(j.Created) || o.CancelSent != nil || len(o.Errors) != 10 || !o.Job.State.Terminal() {
		t.Errorf("of the job that waited: %+v", o)
	}
	if o = w.of(t, third); o.Queued <= 0 || o.CancelSent != nil || o.Stopped != nil {
		t.Errorf("of the job that was canceled in the queue: %+v", o)
	}
	if got := r.sup.Census(); len(got) != 0 {
		t.Errorf("census is %v", got)
	}
}

func TestDeathsAreToldOfHelpersThatWeDidNotKill(t *testing.T) {
	r, w := watchedRig(t)
	killed := r.submit(request(fakeHelper("work"))).ID
	if err := syscall.Kill(r.working(killed).Helper.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r.ended(killed, record.Failed)
	if o := w.of(t, killed); o.Stopped != nil {
		t.Errorf("of the killed job: %+v", o)
	}
	deaf := r.submit(request(fakeHelper("ignoreTerm"))).ID
	r.until(deaf, func(j record.Job) bool { return len(j.Warnings) > 0 })
	if _, err := r.sup.Cancel(deaf, uid1000, true); err != nil {
		t.Fatal(err)
	}
	if o := w.of(t, deaf); o.Stopped == nil {
		t.Errorf("of the job that we killed: %+v", o)
	}
	failed := r.submit(request(fakeHelper("fail"))).ID
	if o := w.of(t, failed); o.Job.State != record.Failed {
		t.Errorf("of the job that failed: %+v", o)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.died) != 1 || !strings.Contains(w.died[0], "killed by") {
		t.Errorf("deaths are %q", w.died)
	}
}
