package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"storaged/internal/record"
	"storaged/internal/service/contract"
)

func (h *host) write(name string, size int) {
	h.t.Helper()
	h.must(os.WriteFile(h.path(name), make([]byte, size), 0o600))
}

func TestFreshFindsWhatOthersHaveDone(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.sparse("ours", mib)
	h.write("theirs", 4096)
	h.unknown("theirs")
	fresh := h.client.Fresh()
	v, err := fresh.Volume(h.ctx(), "pool", "theirs")
	if err != nil || v.Origin != record.Found || v.Capacity != 4096 {
		t.Errorf("with fresh: %s (%v)", shown(v), err)
	}
	h.is("ours", record.Volume{Origin: record.Made})
	jobs, err := h.client.Jobs(h.ctx(), contract.JobFilter{}, contract.Page{})
	if err != nil || len(jobs.Items) != 2 {
		t.Errorf("looking is in the history: %s (%v)", shown(jobs.Items), err)
	}
}

func TestFreshOfManyReadersIsOneReading(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.write("theirs", 4096)
	before := h.poolEntry("pool")
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			vols, err := h.client.Fresh().PoolVolumes(h.ctx(), "pool")
			if err != nil || len(vols) != 1 {
				t.Errorf("volumes are %s (%v)", shown(vols), err)
			}
		})
	}
	all.Wait()
	after, err := h.client.Pool(h.ctx(), "pool")
	if err != nil || after.Observed == nil || !after.Observed.After(*before.Observed) {
		t.Errorf("observed %v, then %v (%v)", before.Observed, after.Observed, err)
	}
	h.is("theirs", record.Volume{Generation: 1})
}

func TestFreshTellsOfAPoolThatCannotBeRead(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.sparse("ours", mib)
	h.must(os.Rename(h.pool, h.pool+"-away"))
	pools, err := h.client.Fresh().Pools(h.ctx())
	if err != nil || pools[0].State != record.PoolUnreachable || pools[0].Reason == "" {
		t.Errorf("without its directory the pool is %s (%v)", shown(pools), err)
	}
	h.is("ours", record.Volume{State: record.VolumeReady})
	h.must(os.Rename(h.pool+"-away", h.pool))
	tick := newTick(t)
	for { // the answer of before is good for a second
		p := must(h.client.Fresh().Pool(h.ctx(), "pool"))(t)
		if p.State == record.PoolActive {
			return
		}
		<-tick
	}
}

func TestFreshLeavesAStoppedPoolAlone(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.succeed(h.stopPool("pool"))
	if p, err := h.client.Fresh().Pool(h.ctx(), "pool"); err != nil || p.State != record.PoolInactive {
		t.Errorf("the pool is %s (%v)", shown(p), err)
	}
	if _, err := h.client.Fresh().Pool(h.ctx(), "nope"); record.CodeOf(err) != record.NotFound {
		t.Errorf("a pool that is not there: %v", err)
	}
}

// Volumes that come and go while the pool is read again and again are neither
// found a second time nor lost.
func TestFreshAndJobsDoNotDisturbEachOther(t *testing.T) {
	t.Parallel()
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
		h.sparse("v", mib)
		h.is("v", record.Volume{Origin: record.Made, State: record.VolumeReady})
		h.succeed(h.remove("v"))
		h.unknown("v")
	}
	close(stop)
	<-done
}

// Of refreshes that are asked for at once the first reads, and the next for all
// who came too late for that.
func TestRefreshesThatWaitShareOneReading(t *testing.T) {
	t.Parallel()
	h := unbegun(t)
	gate, helper := filepath.Join(h.dir, "gate"), filepath.Join(h.dir, "helper")
	h.must(syscall.Mkfifo(gate, 0o600))
	script := fmt.Sprintf("#!/bin/sh\n[ \"$1\" = pool-refresh ] && read line < %s\nexec %s \"$@\"\n", gate, filepath.Join(bin, "storage-helper"))
	h.must(os.WriteFile(helper, []byte(script), 0o700))
	h.env = []string{"STORAGED_HELPER=" + helper}
	h.begin()
	jobs := make([]started, 8)
	for i := range jobs {
		jobs[i] = h.began(h.refreshPool("pool", key(fmt.Sprint("key", i))))
	}
	h.write("foreign", 4096)
	for _, st := range jobs[:2] {
		h.must(os.WriteFile(gate, []byte("go\n"), 0)) // waits for a reader
		h.succeed(st, nil)
	}
	for i, st := range jobs {
		j := h.succeed(st, nil)
		if alone := i < 2; alone != (j.AnsweredBy == nil) || !alone && *j.AnsweredBy != jobs[1].Job.Number {
			t.Errorf("refresh %d: %s", i, outcome(j))
		}
		again, err := h.refreshPool("pool", key(fmt.Sprint("key", i)))
		if err != nil || again.Job.ID != st.Job.ID {
			t.Errorf("refresh %d under its key again is %s, %v", i, shown(again.Job), err)
		}
	}
	if _, err := h.client.Volume(h.ctx(), "pool", "foreign"); err != nil {
		t.Error(err)
	}
}
