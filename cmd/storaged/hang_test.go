package main_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"storaged/internal/service/contract"
)

// hangingRefresh is a host whose helpers' readings of a pool never end, as on a
// file server that is away.
func hangingRefresh(t *testing.T) *host { return hanging(t, "pool-refresh|pool-space") }

// hanging is a host with helpers of which tasks never end.
func hanging(t *testing.T, tasks string) *host {
	h := unbegun(t)
	script := fmt.Sprintf("#!/bin/sh\ncase $1 in %s) exec sleep 3600;; esac\nexec %s \"$@\"\n", tasks, filepath.Join(bin, "storage-helper"))
	path := filepath.Join(t.TempDir(), "helper")
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	h.env = []string{"STORAGED_HELPER=" + path}
	h.begin()
	return h
}

func TestPoolThatCannotBeReadKeepsNoRequestFromItsAnswer(t *testing.T) {
	t.Parallel()
	h := hangingRefresh(t)
	const soon = 20 * time.Second // a query that says no HELLO is killed after ten
	ctx, cancel := context.WithTimeout(h.ctx(), soon)
	defer cancel()
	begun := time.Now()
	st, err := h.create("huge", 1<<60, allAllocated)
	if err == nil { // the helper finds out, or is stopped
		_, err = h.client.CancelJob(ctx, st.Job.ID, contract.JobCancel{})
		h.end(st, nil)
	}
	if took := time.Since(begun); took > 8*time.Second {
		t.Errorf("answered after %v (%v)", took, err)
	}
}
