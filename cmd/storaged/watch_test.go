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
		return func() bool { return h.poolEntry("pool").Observed.After(than) }
	}
	h.await("a reading", newer(*h.poolEntry("pool").Observed))
	h.await("another one", newer(*h.poolEntry("pool").Observed))
	h.must(os.Rename(h.pool, h.pool+"-away"))
	h.await("a pool that is away", state(record.PoolUnreachable))
	h.must(os.Rename(h.pool+"-away", h.pool))
	h.await("the pool", state(record.PoolActive))
	h.is("v", record.Volume{State: record.VolumeReady})
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

// However many pools hang, the others are read all the time, and few helpers wait for those
// that do.
func TestPoolsThatHangKeepNoOthersFromBeingRead(t *testing.T) {
	t.Parallel()
	h := unbegun(t)
	h.config = filepath.Join(h.dir, "storaged.toml")
	h.configure("[pools]\nread_every = \"1s\"\n")
	h.hangs("pool-space", "/hangs-")
	h.begin()
	const hangs, places = 16, 10 // eight of those that answer, and two of those that do not
	for i := range hangs {
		name := fmt.Sprint("hangs-", i)
		h.define(name, filepath.Join(h.dir, name))
	}
	most := 0
	for range 5 {
		then := *h.poolEntry("pool").Observed
		h.await("a reading", func() bool {
			most = max(most, alive(h.hung()))
			return h.poolEntry("pool").Observed.After(then)
		})
	}
	h.await("helpers that wait for all pools", func() bool {
		most = max(most, alive(h.hung()))
		return len(h.hung()) > hangs
	})
	if most == 0 || most > places {
		t.Errorf("%d helpers have waited at once", most)
	}
}
