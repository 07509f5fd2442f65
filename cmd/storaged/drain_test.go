package main_test

import (
	"slices"
	"testing"

	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/testenv"
)

// A drain lasts as long as the daemon; what waited is begun by the next one.
func TestDrainEndsWithTheDaemon(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.random("base", 16*mib)
	h.patchLimits(contract.LimitsPatch{Rate: []byte("1048576"), Running: ptr(1)})
	one := h.began(h.clone("base", "one", noReflink))
	h.running(one)
	two := h.began(h.clone("base", "two", noReflink))
	d, err := h.client.Drain(h.ctx(), true)
	if err != nil || !d.On || !slices.Equal(d.Running, []int64{one.Job.Number}) {
		t.Fatalf("drain is %s, %v", shown(d), err)
	}
	st, err := h.client.Status(h.ctx())
	if err != nil || st.State != "draining" || !st.Drain.On || st.Drain.By == nil {
		t.Errorf("status is %s, %v", shown(st), err)
	}
	h.refuses(record.Draining)(h.refreshPool("pool"))
	h.patchLimits(contract.LimitsPatch{Rate: []byte("null")})
	h.succeed(one, nil)
	if j := h.job(two); j.State != record.Queued || len(j.WaitingOn) != 1 || j.WaitingOn[0].For != "drain" {
		t.Errorf("the job that waits is %s, on %s", j.State, shown(j.WaitingOn))
	}
	h.stop()
	h.start()
	h.succeed(two, nil)
	if st, err := h.client.Status(h.ctx()); err != nil || st.State != "ready" || st.Drain.On {
		t.Errorf("afterwards the status is %s, %v", shown(st), err)
	}
}

// Pools on one disk share its places, whatever they are called.
func TestPoolsOnOneDiskShareItsPlaces(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	p := h.poolEntry("pool")
	testenv.Need(t, "a temporary directory on one disk", len(p.Devices) == 1)
	h.define("other", h.dir+"/pool2")
	h.random("base", 16*mib)
	h.patchLimits(contract.LimitsPatch{Rate: []byte("1048576"), DeviceRunning: map[string]*int{p.Devices[0]: ptr(1)}})
	one := h.began(h.clone("base", "one", noReflink))
	h.running(one)
	two := h.began(h.create("other/v", mib))
	j, err := h.client.Job(h.ctx(), two.Job.ID)
	if err != nil || j.State != record.Queued || len(j.WaitingOn) != 1 || j.WaitingOn[0].For != "slot" || j.WaitingOn[0].Device != p.Devices[0] {
		t.Fatalf("the second is %s, waiting on %s (%v)", j.State, shown(j.WaitingOn), err)
	}
	h.patchLimits(contract.LimitsPatch{Rate: []byte("null")})
	h.succeed(one, nil)
	h.succeed(two, nil)
}
