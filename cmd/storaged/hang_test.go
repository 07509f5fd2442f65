package main_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"storaged/internal/service/contract"
	"storaged/internal/testenv"
	"storaged/internal/virtrpc/virtrpctest"
)

// hangingRefresh is a host whose helpers' readings of a pool never end, as on a
// file server that is away.
func hangingRefresh(t *testing.T) *host { return hanging(t, "pool-refresh|pool-space") }

// hanging is a host with helpers of which tasks never end.
func hanging(t *testing.T, tasks string) *host {
	h := unbegun(t)
	h.hangs(tasks, "")
	h.begin()
	return h
}

// hangs gives a daemon that is started afterwards helpers of which tasks never end where
// their command line has such a name. See hung.
func (h *host) hangs(tasks, names string) {
	h.t.Helper()
	h.before(fmt.Sprintf("case $1 in %s) case \"$*\" in *%s*) echo $$ >>%s; exec sleep 3600;; esac;; esac", tasks, names, filepath.Join(h.dir, "hung")))
}

// delays gives a daemon that is started afterwards helpers that begin a task late.
func (h *host) delays(task string, seconds int) {
	h.t.Helper()
	h.before(fmt.Sprintf("case $1 in %s) sleep %d;; esac", task, seconds))
}

// before gives a daemon that is started afterwards helpers that do first what a shell is told.
func (h *host) before(order string) {
	h.t.Helper()
	script := fmt.Sprintf("#!/bin/sh\n%s\nexec %s \"$@\"\n", order, filepath.Join(bin, "storage-helper"))
	path := filepath.Join(h.t.TempDir(), "helper")
	h.must(os.WriteFile(path, []byte(script), 0o700))
	h.env = append(h.env, "STORAGED_HELPER="+path)
}

// hung are the helpers that never end, those that were killed included.
func (h *host) hung() (pids []string) {
	h.t.Helper()
	b, err := os.ReadFile(filepath.Join(h.dir, "hung"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	h.must(err)
	return strings.Fields(string(b))
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

// Who walks over the volumes of a pool that hangs is shown what is known of them, and has
// one helper wait for it.
func TestVolumesOfAPoolThatHangsAreShownAsTheyWere(t *testing.T) {
	t.Parallel()
	testenv.Root(t)
	h := hanging(t, "pool-look")
	h.sparse("disk", mib)
	out, ok := virtrpctest.Virsh(t, h.libvirtURI(), strings.Repeat("vol-dumpxml disk pool; vol-info disk pool; ", 20))
	if n := strings.Count(out, "<capacity unit='bytes'>1048576</capacity>"); !ok || n != 20 {
		t.Errorf("it is shown %d times: %s", n, out)
	}
	if pids := h.hung(); len(pids) != 1 {
		t.Errorf("helpers %q wait for it", pids)
	}
	h.succeed(h.remove("disk"))
}

// A volume that is incomplete is refused as that, though it cannot be looked at whether
// another file has come in its place.
func TestIncompleteVolumeOfAPoolThatHangsIsRefusedAsThat(t *testing.T) {
	t.Parallel()
	h := hanging(t, "pool-look")
	h.random("v", 4*mib)
	h.brokenWipe("v")
	for range 2 {
		h.isRefusedAsIncomplete(h.clone("v", "copy"))
	}
}
