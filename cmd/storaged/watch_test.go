package main_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"storaged/internal/record"
)

// How full a pool is, and whether it can be reached, is found out though nobody asks.
func TestPoolsAreReadThoughNobodyAsks(t *testing.T) {
	t.Parallel()
	h := configured(t, "[pools]\nread_every = \"1s\"\n")
	h.sparse("v", mib)
	state := func(s record.PoolState) func() bool {
		return func() bool { return h.poolEntry("pool").State == s }
	}
	newer := func(than time.Time) func() bool {
		return func() bool { return h.observed("pool").After(than) }
	}
	h.await("a reading", newer(time.Now()))
	h.await("another one", newer(time.Now()))
	h.must(os.Rename(h.pool, h.pool+"-away"))
	h.await("a pool that is away", state(record.PoolUnreachable))
	h.must(os.Rename(h.pool+"-away", h.pool))
	h.await("the pool", state(record.PoolActive))
	h.is("v", record.Volume{State: record.VolumeReady})
}

// observed is when a pool was read last; zero: it was not yet.
func (h *host) observed(pool string) time.Time {
	h.t.Helper()
	if at := h.poolEntry(pool).Observed; at != nil {
		return *at
	}
	return time.Time{}
}

// A pool that answers, but takes longer for it than a request waits, is read as well.
func TestPoolsThatAnswerSlowlyAreReadThoughNobodyAsks(t *testing.T) {
	t.Parallel()
	h := unbegun(t)
	h.config = filepath.Join(h.dir, "storaged.toml")
	h.configure("[pools]\nread_every = \"1s\"\n")
	h.delays("pool-space", 4)
	h.begin()
	then := time.Now()
	h.await("a reading", func() bool { return h.observed("pool").After(then) })
}

// A pool whose record is damaged keeps no others from being read.
func TestPoolsBesidesADamagedOneAreReadThoughNobodyAsks(t *testing.T) {
	t.Parallel()
	h := configured(t, "[pools]\nread_every = \"1s\"\n")
	h.define("wreck", filepath.Join(h.dir, "the mark of a record"))
	h.changes("the mark of a record", "the mark of a wreck.")
	if _, err := h.client.Pool(h.ctx(), "wreck"); err == nil {
		t.Error("its record is sound")
	}
	for range 2 { // one may have begun before
		then := time.Now()
		h.await("a reading", func() bool { return h.observed("pool").After(then) })
	}
	h.changes("the mark of a wreck.", "the mark of a record")
}

// alive are those of processes that have not ended.
func alive(pids []string) (n int) {
	for _, pid := range pids {
		stat, err := os.ReadFile("/proc/" + pid + "/stat")
		if _, state, _ := bytes.Cut(stat, []byte(") ")); err == nil && !bytes.HasPrefix(state, []byte("Z")) {
			n++
		}
	}
	return n
}

// However many pools hang, the others are read all the time, and one helper at most waits
// for each of those that do.
func TestPoolsThatHangKeepNoOthersFromBeingRead(t *testing.T) {
	t.Parallel()
	h := unbegun(t)
	h.config = filepath.Join(h.dir, "storaged.toml")
	h.configure("[pools]\nread_every = \"1s\"\n")
	h.hangs("pool-space", "/hangs-")
	h.begin()
	const hangs = 12 // there are eight places for those that answer, and two for those that do not
	for i := range hangs {
		name := fmt.Sprint("hangs-", i)
		h.define(name, filepath.Join(h.dir, name))
	}
	most := 0
	for range 5 {
		then := time.Now()
		h.await("a reading", func() bool {
			most = max(most, alive(h.hung()))
			return h.observed("pool").After(then)
		})
	}
	h.await("helpers that wait for all pools", func() bool {
		most = max(most, alive(h.hung()))
		return len(h.hung()) > hangs
	})
	if most == 0 || most > hangs {
		t.Errorf("%d helpers have waited at once", most)
	}
}
