package main_test

import (
	"os"
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
