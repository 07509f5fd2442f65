package supervisor

import (
	"testing"

	"storaged/internal/record"
)

// atRate waits until the helper says that this limit is in force.
func (r *rig) atRate(id string, want int64) {
	r.t.Helper()
	r.until(id, func(record.Job) bool {
		track := r.sup.find(id).track
		track.mu.Lock()
		defer track.mu.Unlock()
		return track.limit == want
	})
}

func TestCapFollowsWhoRuns(t *testing.T) {
	r := newRig(t)
	r.sup.SetLimits(record.Limits{PoolRates: map[string]int64{"p": 1000}})
	start := func(objects ...record.Object) string {
		id := r.submit(request(fakeHelper("work"), objects...)).ID
		r.working(id)
		return id
	}
	a := start(objects("p", "a", "W")...)
	r.atRate(a, 1000)
	b := start(objects("p", "b", "R", "q", "b", "W")...)
	other := start(objects("q", "c", "W")...)
	r.atRate(a, 500)
	r.atRate(b, 500)
	r.atRate(other, 0)

	own := int64(100)
	if _, err := r.sup.SetLimit(b, &own, uid1000); err != nil {
		t.Fatal(err)
	}
	r.atRate(b, 100)
	r.atRate(a, 900)

	if _, err := r.sup.Pause(a, uid1000); err != nil {
		t.Fatal(err)
	}
	r.untilState(a, record.Paused)
	if _, err := r.sup.SetLimit(b, nil, uid1000); err != nil {
		t.Fatal(err)
	}
	r.atRate(b, 1000)
	r.atRate(a, 900) // as when it was paused
	if _, err := r.sup.Resume(a, uid1000); err != nil {
		t.Fatal(err)
	}
	r.atRate(b, 500)

	if _, err := r.sup.Cancel(b, uid1000, false); err != nil {
		t.Fatal(err)
	}
	r.ended(b, record.Canceled)
	r.atRate(a, 1000)

	total := int64(600)
	r.sup.SetLimits(record.Limits{Rate: &total, PoolRates: map[string]int64{"p": 200}})
	r.atRate(a, 200)
	r.atRate(other, 300) // half of the total; what its pool denies the other is not lent
	r.sup.SetLimits(record.Limits{})
	r.atRate(a, 0)
	r.atRate(other, 0)
}

func TestCapOfADevice(t *testing.T) {
	r := newRig(t)
	r.sup.SetDevices("p", "8:0")
	r.sup.SetDevices("q", "8:0")
	r.sup.SetLimits(record.Limits{DeviceRates: map[string]int64{"8:0": 1000}})
	a := r.submit(request(fakeHelper("work"), objects("p", "a", "R", "q", "a", "W")...)).ID
	b := r.submit(request(fakeHelper("work"), objects("q", "b", "W")...)).ID
	r.working(a)
	r.working(b)
	r.atRate(a, 500)
	r.atRate(b, 500)
	r.sup.SetDevices("q", "8:16") // found by a refresh
	r.atRate(a, 1000)
	r.atRate(b, 0)
}

func TestAdoptedHelperGetsItsShareAgain(t *testing.T) {
	r := newRig(t)
	r.cfg.Limits = record.Limits{PoolRates: map[string]int64{"p": 1000}}
	a := r.submit(request(fakeHelper("work"), objects("p", "a", "W")...)).ID
	b := r.submit(request(fakeHelper("work"), objects("p", "b", "W")...)).ID
	r.working(a)
	r.working(b)
	r.again()
	r.atRate(a, 500)
	r.atRate(b, 500)
}

func TestPoolExceptionToRunning(t *testing.T) {
	r := newRig(t)
	r.sup.SetLimits(record.Limits{RunningPool: 1, PoolRunning: map[string]int{"q": 2}})
	first := r.submit(request(fakeHelper("work"), objects("p", "a", "W")...)).ID
	r.working(first)
	second := r.submit(request(fakeHelper("work"), objects("p", "b", "W")...)).ID
	for _, name := range []string{"a", "b"} {
		r.working(r.submit(request(fakeHelper("work"), objects("q", name, "W")...)).ID)
	}
	j, err := r.sup.Job(second)
	if err != nil || j.State != record.Queued || len(j.WaitingOn) != 1 || j.WaitingOn[0].For != "slot" || j.WaitingOn[0].Object.Pool != "p" {
		t.Fatalf("the second job of p is %s, waits on %+v (%v)", j.State, j.WaitingOn, err)
	}
	r.sup.SetLimits(record.Limits{RunningPool: 1, PoolRunning: map[string]int{"p": 2, "q": 2}})
	r.working(second)
}
