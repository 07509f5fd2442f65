package main_test

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"storaged/internal/api"
	"storaged/internal/record"
	"storaged/internal/testenv"
)

// A job that waits has its room already: a later one that does not fit beside
// it is refused at once, and told whose the room is.
func TestQueuedJobsReserveTheirRoom(t *testing.T) {
	h := newHost(t)
	dir := testenv.Mount(t, "tmpfs")
	h.define("small", dir)
	p, err := h.client.Pool(h.ctx(), "small")
	if err != nil {
		t.Fatal(err)
	}
	h.patchLimits(api.LimitsPatch{PoolRunning: map[string]*int{"small": ptr(1)}, Rate: []byte("1048576")})
	h.random("base", 4*mib)
	one, err := h.client.CloneVolume(h.ctx(), api.Submit{}, "pool", "base", api.VolumeClone{Name: "one", Pool: "small", Reflink: "never"})
	if err != nil {
		t.Fatal(err)
	}
	h.running(one)
	r := api.VolumeCreate{Name: "two", Capacity: p.Available - 8*mib}
	two, err := h.client.CreateVolume(h.ctx(), api.Submit{}, "small", r)
	if err != nil {
		t.Fatal(err)
	}
	if j, err := h.client.Job(h.ctx(), two.Job.ID); err != nil || j.State != record.Queued || j.Reserved != r.Capacity {
		t.Fatalf("the second is %s, %d reserved, %v", j.State, j.Reserved, err)
	}
	if p, err := h.client.Pool(h.ctx(), "small"); err != nil || p.Reserved < r.Capacity {
		t.Errorf("the pool has %d reserved, %v", p.Reserved, err)
	}
	again := api.VolumeCreate{Name: "three", Capacity: 16 * mib}
	_, err = h.client.CreateVolume(h.ctx(), api.Submit{}, "small", again)
	refusal, ok := err.(*record.Error)
	if !ok || refusal.Code != record.NoSpace || len(refusal.Holders) == 0 || refusal.Holders[0].For != "space" || refusal.Holders[0].Holder.Number != two.Job.Number {
		t.Fatalf("the third: %+v", err)
	}
	if !strings.Contains(refusal.Message, "reserved by job") {
		t.Errorf("it says %q", refusal.Message)
	}
	_, err = h.client.ResizeVolume(h.ctx(), api.Submit{}, "pool", "base", api.VolumeResize{Capacity: 1 << 50, Allocate: true})
	if !errors.As(err, &refusal) || refusal.Code != record.NoSpace || !strings.Contains(refusal.Hint, "leave out --allocate") {
		t.Errorf("a resize without room: %+v", err)
	}
	if _, err := h.client.CancelJob(h.ctx(), two.Job.ID, api.JobCancel{}); err != nil {
		t.Fatal(err)
	}
	h.end(two, nil)
	h.patchLimits(api.LimitsPatch{Rate: []byte("null")})
	h.succeed(one, nil)
	three, err := h.client.CreateVolume(h.ctx(), api.Submit{}, "small", again)
	if j := h.succeed(three, err); j.Reserved != 0 {
		t.Errorf("an ended job has %d reserved", j.Reserved)
	}
	if p, err := h.client.Pool(h.ctx(), "small"); err != nil || p.Reserved != 0 {
		t.Errorf("at the end the pool has %d reserved, %v", p.Reserved, err)
	}
	h.succeed(h.client.StopPool(h.ctx(), api.Submit{}, "small", api.PoolStop{}))
}

// The same definition under one key, many times at once, is one pool.
func TestPoolDefinedAtOnceUnderOneKey(t *testing.T) {
	h := newHost(t)
	for name, start := range map[string]bool{"started": true, "defined": false} {
		r := api.PoolDefine{Name: name, Type: "dir", Target: record.Target{Path: h.dir + "/pool-" + name}}
		const clients = 8
		uuids, jobs, errs := make([]string, clients), make([]api.Started, clients), make([]error, clients)
		var all sync.WaitGroup
		for i := range clients {
			all.Go(func() {
				var p record.Pool
				p, jobs[i], errs[i] = h.client.DefinePool(h.ctx(), api.Submit{Key: name}, r, start, start)
				uuids[i] = p.UUID
			})
		}
		all.Wait()
		for i := range clients {
			if errs[i] != nil || uuids[i] != uuids[0] || start && jobs[i].Job.ID != jobs[0].Job.ID {
				t.Errorf("%s: answer %d is %q, %+v, %v", name, i, uuids[i], jobs[i].Job, errs[i])
			}
		}
		if start {
			h.succeed(jobs[0], nil)
		}
		r.Target.Path += "-2"
		if _, _, err := h.client.DefinePool(h.ctx(), api.Submit{Key: name}, r, start, start); record.CodeOf(err) != record.KeyReused {
			t.Errorf("%s: another request under the key: %v", name, err)
		}
	}
}
