package main_test

import (
	"flag"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/testenv"
)

// away is for how long a server is away in the middle of a job. On a machine that is
// emulated a second is short.
var away = flag.Duration("away", 20*time.Second, "how long a server of NFS is away in the middle of a clone")

// onNFS has a pool "net" on what this host exports, by a version of NFS.
func (h *host) onNFS(version string) (dir string) {
	h.t.Helper()
	dir = filepath.Join(h.dir, "net")
	h.t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_FORCE|unix.MNT_DETACH) }) // it is mounted only where the test has failed
	_, st, err := h.client.DefinePool(h.ctx(), contract.Submit{}, contract.PoolDefine{
		Name: "net", Type: "netfs", Target: record.Target{Path: dir},
		Source: record.Source{Hosts: []string{"localhost"}, Path: testenv.NFS(h.t, 1), Options: map[string]string{"nfsvers": version}},
	}, false, true)
	h.succeed(st, err)
	return dir
}

// A job on a server that is away is stalled, and says on what; meanwhile the daemon answers,
// and other pools work. When the server is back the job finishes. The helper of one that is
// canceled is killed, unless it waits in the kernel where no kill reaches it, which is said
// then; in either case the job is undone in the end.
func TestServerIsAwayInTheMiddleOfAJob(t *testing.T) {
	testenv.VM(t)
	for _, version := range []string{"4.2", "3"} {
		t.Run("NFS "+version, func(t *testing.T) {
			h := newHost(t)
			want := h.random("base", 24*mib)
			dir := h.onNFS(version)
			finishes, ends := h.began(h.clone("base", "net/finishes", limited(2*mib), noReflink)), h.began(h.clone("base", "net/ends", limited(mib), noReflink))
			h.written(finishes.Job.ID, 1)
			h.written(ends.Job.ID, 1)
			back := testenv.AwayNFS(t)
			gone := time.NewTimer(*away)
			for _, st := range []started{finishes, ends} {
				h.until(st.Job.ID, func(j record.Job) bool {
					return j.Estimate.StalledSince != nil && strings.Contains(j.Estimate.StalledOn, "a server")
				})
			}
			h.runs(0, "a server", "list")
			h.answers()
			h.sparse("elsewhere", mib)
			_, err := h.client.CancelJob(h.ctx(), ends.Job.ID, contract.JobCancel{Now: true})
			h.must(err)
			h.until(ends.Job.ID, func(j record.Job) bool { return j.State == record.RollingBack || namesWhoIsStuck(j) })
			<-gone.C
			h.answers()
			back()
			h.succeed(finishes, nil)
			if got := hashOf(t, filepath.Join(dir, "finishes")); got != want {
				t.Errorf("the copy has the hash %s, want %s", got, want)
			}
			if j := h.end(ends, nil); j.State != record.Canceled {
				t.Errorf("the job that was canceled is %s", outcome(j))
			}
			h.gone("net", dir, "ends")
			st, err := h.client.Start(h.ctx(), contract.Submit{}, "net", "", &operation.PoolStopRequest{})
			h.succeed(st, err)
		})
	}
}
