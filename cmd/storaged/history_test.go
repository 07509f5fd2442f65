package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/store"
)

// newTick gives a ticker for what has no event.
func newTick(t *testing.T) <-chan time.Time {
	tick := time.NewTicker(20 * time.Millisecond)
	t.Cleanup(tick.Stop)
	return tick.C
}

// fill puts ended jobs into the store of a daemon that does not run.
func (h *host) fill(n int, ago time.Duration) {
	h.t.Helper()
	st, err := store.Open(filepath.Join(h.dir, "state", "storaged.db"))
	if err != nil {
		h.t.Fatal(err)
	}
	defer st.Close()
	at := time.Now().Add(-ago).UTC()
	err = st.Update(func(tx *store.Tx) error {
		for range n {
			number, err := tx.NextNumber()
			if err != nil {
				return err
			}
			j := &store.Job{Job: record.Job{
				ID: uuid.Must(uuid.NewV7()).String(), Number: number, Kind: record.VolumeClone, Class: record.Async,
				State: record.Succeeded, Created: at, Started: &at, Ended: &at, Priority: record.NormalPriority,
				OnFailure: record.RollbackOnFailure, Rollback: record.RollbackNone,
				Owner:   record.Owner{UID: 1000, User: "alice", Command: "storagedctl", Via: "rest"},
				Objects: []record.Object{{Pool: "pool", Volume: "base", Mode: record.ModeRead}, {Pool: "pool", Volume: fmt.Sprint("v", number), Mode: record.ModeWrite}},
				Helper:  &record.Helper{PID: 1, Argv: []string{"storage-helper", "clone", "--source", "/srv/images/base", "--target", "/srv/images/v"}},
				Result:  &record.Result{Pool: "pool", Volume: fmt.Sprint("v", number), Method: "copy", Bytes: 1 << 30},
				Stats:   &record.Stats{BytesRead: new(int64(1 << 30)), BytesWritten: new(int64(1 << 30))},
			}}
			if err := tx.PutJob(j); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		h.t.Fatal(err)
	}
}

// pagePromise is how long a page of a list may take, whatever the history. It is held to
// in time of the daemon's on processors, which is the same on a machine with other work.
const pagePromise = 100 * time.Millisecond

// spent is how long the daemon was on processors (proc_pid_stat(5)), in steps of 10 ms.
func (h *host) spent() time.Duration {
	h.t.Helper()
	stat := string(must(os.ReadFile(fmt.Sprintf("/proc/%d/stat", h.daemon.Process.Pid)))(h.t))
	fields := strings.Fields(stat[strings.LastIndex(stat, ")")+1:])
	const user, system, step = 11, 12, 10 * time.Millisecond
	return time.Duration(must(strconv.Atoi(fields[user]))(h.t)+must(strconv.Atoi(fields[system]))(h.t)) * step
}

func TestListsOfALongHistoryAreQuick(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.stop()
	n := 9_990
	if raceEnabled { // which is slow, and measures nothing
		n = 500
	}
	h.fill(n, time.Hour)
	h.start()
	for name, f := range map[string]contract.JobFilter{
		"all":               {},
		"the failed":        {States: []string{"failed"}},
		"of one volume":     {Volumes: []string{"pool/v5"}},
		"of somebody":       {Owners: []string{"alice"}},
		"with a label":      {Labels: []string{"a=b"}},
		"with another kind": {Kinds: []string{"pool.start"}},
	} {
		const pages = 20
		before := h.spent()
		for range pages {
			if _, err := h.client.Jobs(h.ctx(), f, contract.Page{}); err != nil {
				t.Fatal(err)
			}
		}
		took := (h.spent() - before) / pages
		t.Logf("%s: %v", name, took)
		if took > pagePromise && !raceEnabled {
			t.Errorf("a page of %s takes %v", name, took)
		}
	}
}

func TestHistoryIsPrunedAtTheStart(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.sparse("one", mib)
	h.stop()
	h.fill(300, 31*24*time.Hour)
	h.fill(5, 29*24*time.Hour)
	h.start()
	tick := newTick(t)
	for {
		l := must(h.client.Jobs(h.ctx(), contract.JobFilter{}, contract.Page{Limit: 1000}))(t)
		if len(l.Items) == 7 {
			return
		}
		if len(l.Items) < 7 {
			t.Fatalf("%d are left", len(l.Items))
		}
		<-tick
	}
}

func TestForgottenWipeLeavesATrace(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.sparse("one", mib)
	wipe := h.succeed(h.wipe("one"))
	created := h.sparse("two", mib)
	for _, j := range []record.Job{wipe, created} {
		h.forget(j)
		if _, err := os.Stat(filepath.Join(h.dir, "state", "jobs", j.ID)); !os.IsNotExist(err) {
			t.Errorf("files of job %d are left (%v)", j.Number, err)
		}
	}
	got, err := h.client.Job(h.ctx(), wipe.ID)
	if err != nil || !got.Forgotten || got.Kind != record.VolumeWipe || got.Result != nil || got.Owner != wipe.Owner {
		t.Errorf("left of the wipe is %s (%v)", shown(got), err)
	}
	if _, err := h.client.Job(h.ctx(), created.ID); record.CodeOf(err) != record.NotFound {
		t.Errorf("the forgotten create is there (%v)", err)
	}
	if _, err := h.retry(wipe); err == nil {
		t.Error("a forgotten job can be retried")
	}
}
