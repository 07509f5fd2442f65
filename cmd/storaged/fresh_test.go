package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"storaged/internal/record"
	"storaged/internal/service"
)

func (h *host) write(name string, size int) {
	h.t.Helper()
	if err := os.WriteFile(h.path(name), make([]byte, size), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

func TestFreshFindsWhatOthersHaveDone(t *testing.T) {
	h := newHost(t)
	h.create("ours", mib)
	h.write("theirs", 4096)
	if _, err := h.client.Volume(h.ctx(), "pool", "theirs"); record.CodeOf(err) != record.NotFound {
		t.Errorf("without fresh: %v", err)
	}
	fresh := h.client.Fresh()
	v, err := fresh.Volume(h.ctx(), "pool", "theirs")
	if err != nil || v.Origin != record.Found || v.Capacity != 4096 {
		t.Errorf("with fresh: %+v (%v)", v, err)
	}
	if v, err := h.client.Volume(h.ctx(), "pool", "ours"); err != nil || v.Origin != record.Made {
		t.Errorf("what we made is %+v (%v)", v, err)
	}
	jobs, err := h.client.Jobs(h.ctx(), service.JobFilter{}, service.Page{})
	if err != nil || len(jobs.Items) != 2 {
		t.Errorf("looking is in the history: %+v (%v)", jobs.Items, err)
	}
}

func TestFreshOfManyReadersIsOneReading(t *testing.T) {
	h := newHost(t)
	h.write("theirs", 4096)
	before, err := h.client.Pool(h.ctx(), "pool")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			vols, err := h.client.Fresh().PoolVolumes(h.ctx(), "pool")
			if err != nil || len(vols) != 1 {
				t.Errorf("volumes are %+v (%v)", vols, err)
			}
		})
	}
	all.Wait()
	after, err := h.client.Pool(h.ctx(), "pool")
	if err != nil || after.Observed == nil || !after.Observed.After(*before.Observed) {
		t.Errorf("observed %v, then %v (%v)", before.Observed, after.Observed, err)
	}
	if v, err := h.client.Volume(h.ctx(), "pool", "theirs"); err != nil || v.Generation != 1 {
		t.Errorf("the volume was found again and again: %+v (%v)", v, err)
	}
}

func TestFreshTellsOfAPoolThatCannotBeRead(t *testing.T) {
	h := newHost(t)
	h.create("ours", mib)
	if err := os.Rename(h.pool, h.pool+"-away"); err != nil {
		t.Fatal(err)
	}
	pools, err := h.client.Fresh().Pools(h.ctx())
	if err != nil || pools[0].State != record.PoolUnreachable || pools[0].Reason == "" {
		t.Errorf("without its directory the pool is %+v (%v)", pools, err)
	}
	if v, err := h.client.Volume(h.ctx(), "pool", "ours"); err != nil || v.State != record.VolumeReady {
		t.Errorf("what is known of its volumes is lost: %+v (%v)", v, err)
	}
	if err := os.Rename(h.pool+"-away", h.pool); err != nil {
		t.Fatal(err)
	}
	tick := newTick(t)
	for { // the answer of before is good for a second
		p, err := h.client.Fresh().Pool(h.ctx(), "pool")
		if err != nil {
			t.Fatal(err)
		}
		if p.State == record.PoolActive {
			return
		}
		<-tick
	}
}

func TestFreshLeavesAStoppedPoolAlone(t *testing.T) {
	h := newHost(t)
	st, err := h.client.Start(h.ctx(), service.Submit{}, record.PoolStop, on("pool"), service.PoolStop{})
	h.succeed(st, err)
	if p, err := h.client.Fresh().Pool(h.ctx(), "pool"); err != nil || p.State != record.PoolInactive {
		t.Errorf("the pool is %+v (%v)", p, err)
	}
	if _, err := h.client.Fresh().Pool(h.ctx(), "nope"); record.CodeOf(err) != record.NotFound {
		t.Errorf("a pool that is not there: %v", err)
	}
}

// Volumes that come and go while the pool is read again and again are neither
// found a second time nor lost.
func TestFreshAndJobsDoNotDisturbEachOther(t *testing.T) {
	h := newHost(t)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := h.client.Fresh().Pools(h.ctx()); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	for range 15 {
		h.create("v", mib)
		if v, err := h.client.Volume(h.ctx(), "pool", "v"); err != nil || v.Origin != record.Made || v.State != record.VolumeReady {
			t.Errorf("after create: %+v (%v)", v, err)
		}
		st, err := h.remove("v")
		h.succeed(st, err)
		if v, err := h.client.Volume(h.ctx(), "pool", "v"); record.CodeOf(err) != record.NotFound {
			t.Errorf("after delete: %+v (%v)", v, err)
		}
	}
	close(stop)
	<-done
}

// Of refreshes that are asked for at once the first reads, and the next for all
// who came too late for that.
func TestRefreshesThatWaitShareOneReading(t *testing.T) {
	gate := filepath.Join(t.TempDir(), "gate")
	if err := syscall.Mkfifo(gate, 0o600); err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf("#!/bin/sh\n[ \"$1\" = pool-refresh ] && read line < %s\nexec %s \"$@\"\n", gate, filepath.Join(bin, "storage-helper"))
	helper := filepath.Join(t.TempDir(), "helper")
	if err := os.WriteFile(helper, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("STORAGED_HELPER", helper)
	h := newHost(t)
	jobs := make([]service.Started, 8)
	for i := range jobs {
		var err error
		jobs[i], err = h.client.Start(h.ctx(), service.Submit{Key: fmt.Sprint("key", i)}, record.PoolRefresh, on("pool"), service.JobOptions{})
		h.must(err)
	}
	h.write("foreign", 4096)
	for _, st := range jobs[:2] {
		h.must(os.WriteFile(gate, []byte("go\n"), 0)) // waits for a reader
		h.succeed(st, nil)
	}
	for i, st := range jobs {
		j := h.succeed(st, nil)
		if alone := i < 2; alone != (j.AnsweredBy == nil) || !alone && *j.AnsweredBy != jobs[1].Job.Number {
			t.Errorf("refresh %d: %+v", i, j)
		}
		again, err := h.client.Start(h.ctx(), service.Submit{Key: fmt.Sprint("key", i)}, record.PoolRefresh, on("pool"), service.JobOptions{})
		if err != nil || again.Job.ID != st.Job.ID {
			t.Errorf("refresh %d under its key again is %+v, %v", i, again.Job, err)
		}
	}
	if _, err := h.client.Volume(h.ctx(), "pool", "foreign"); err != nil {
		t.Error(err)
	}
}
