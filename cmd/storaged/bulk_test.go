package main_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"storaged/internal/record"
	"storaged/internal/service/contract"
)

// More jobs than a command names are changed all the same, each by its own rules:
// what has begun is not canceled with what waits.
func TestManyJobsAreChangedByOneRequest(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.random("v", 4*mib)
	h.sparse("w", 65*mib) // no short work, which would not wait for a slot
	h.patchLimits(contract.LimitsPatch{Running: ptr(1)})
	first := h.began(h.clone("v", "copy", noReflink, limited(4096)))
	h.running(first)
	const waiting, clients = 1020, 12
	var all sync.WaitGroup
	for c := range clients {
		all.Go(func() {
			for i := range waiting / clients {
				if _, err := h.clone("w", fmt.Sprintf("copy-%d-%d", c, i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	done := fmt.Sprintf(`"done": %d`, waiting)
	h.runs(0, done, "job", "priority", "--state", "queued", "background", "-o", "json")
	h.runs(0, done, "job", "pause", "--state", "queued", "-o", "json")
	h.runs(0, done, "job", "resume", "--state", "paused", "--state", "queued", "-o", "json")
	h.runs(record.ExitUsage, "", "job", "cancel", "--state", "queued") // it asks
	h.runs(0, fmt.Sprintf("would cancel %d more jobs", waiting-20), "job", "cancel", "--state", "queued", "--dry-run")
	if out := h.runs(0, done, "job", "cancel", "--state", "queued", "--yes", "-o", "json"); strings.Contains(out, `"job":`) {
		t.Errorf("it says %s", out)
	}
	h.await("the end of all that waited", func() bool { return h.status().Jobs["queued"] == 0 }) // they were told
	if s := h.status(); s.Jobs["running"] != 1 {
		t.Errorf("afterwards the jobs are %v", s.Jobs)
	}
	h.runs(record.ExitPartial, fmt.Sprintf("1 of %d failed", waiting+1), "job", "forget", "--kind", "volume.clone", "--state", "canceled", "--state", "running", "--yes")
	h.stopped(first, nil)
}
