package main_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"storaged/internal/record"
	"storaged/internal/service/contract"
)

func itoa(n int) string { return strconv.Itoa(n) }

func TestHelperOutlivesAKilledDaemon(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	want := h.random("base", 32*mib)
	st := h.began(h.clone("base", "copy", noReflink, limited(16*mib)))
	before := h.running(st)
	h.kill()
	h.start()
	after := h.job(st)
	if after.Helper == nil || after.Helper.PID != before.Helper.PID {
		t.Errorf("the helper was %d, is %s", before.Helper.PID, shown(after.Helper))
	}
	h.succeed(st, nil)
	h.hasHash("copy", want)
}

// TestRuntimeDirectoryOfAnotherDaemonIsLeftAlone starts daemons with a state of
// their own on the runtime directory of one that has a job, alive and dead.
func TestRuntimeDirectoryOfAnotherDaemonIsLeftAlone(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.random("base", 8*mib)
	st := h.began(h.clone("base", "copy", noReflink, limited(mib)))
	pid := h.running(st).Helper.PID
	intrude := func(when, says string) {
		t.Helper()
		second := h.command()
		second.Args = append(second.Args, "--socket", h.sock+"2", "--state-dir", h.dir+"/state2")
		out, err := second.CombinedOutput()
		var exit *exec.ExitError
		if !asExit(err, &exit) || exit.ExitCode() != record.ExitBusy || !strings.Contains(string(out), says) {
			t.Errorf("%s: %v\n%s", when, err, out)
		}
	}
	intrude("beside a living daemon", "has locked")
	h.kill()
	intrude("after its death", "has jobs of the daemon whose state is in")
	h.start()
	if j, err := h.client.PatchJob(h.ctx(), st.Job.ID, contract.JobPatch{Limit: []byte("null")}); err != nil || j.Helper.PID != pid {
		t.Errorf("the helper was %d, the job is %s (%v)", pid, outcome(j), err)
	}
	h.succeed(st, nil)
}

func TestRestartKeepsEverything(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.sparse("one", mib)
	h.stop()
	h.start()
	h.poolIs("pool", record.Pool{State: record.PoolActive})
	h.is("one", record.Volume{Origin: record.Made})
	jobs, err := h.client.Jobs(h.ctx(), contract.JobFilter{}, contract.Page{})
	if err != nil || len(jobs.Items) != 2 {
		t.Errorf("history has %d jobs (%v)", len(jobs.Items), err)
	}
	h.jobIs(h.sparse("two", mib), record.Job{Number: 3})
}

func TestSecondDaemonOnTheSameStateIsRefused(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	second := h.command()
	second.Args = append(second.Args, "--socket", h.sock+"2")
	out, err := second.CombinedOutput()
	if err == nil {
		t.Fatal("a second daemon ran on the same state")
	}
	if !strings.Contains(string(out), h.dir) || !strings.Contains(string(out), itoa(h.daemon.Process.Pid)) {
		t.Errorf("the refusal names neither state nor pid:\n%s", out)
	}
	var exit *exec.ExitError
	if ok := asExit(err, &exit); !ok || exit.ExitCode() != record.ExitBusy {
		t.Errorf("exit %v, want %d", err, record.ExitBusy)
	}
}

// A database of a newer program is refused and left as it is.
func TestDowngradeIsRefused(t *testing.T) {
	t.Parallel()
	h := &host{t: t, dir: t.TempDir(), bin: bin}
	h.sock = filepath.Join(h.dir, "s")
	newer := must(os.ReadFile("../../internal/store/testdata/schema-newer.db"))(t)
	database := filepath.Join(h.dir, "state", "storaged.db")
	h.must(errors.Join(os.Mkdir(filepath.Dir(database), 0o700), os.WriteFile(database, newer, 0o600)))
	out, err := h.command().CombinedOutput()
	var exit *exec.ExitError
	if !asExit(err, &exit) || exit.ExitCode() != record.ExitUnsupported {
		t.Errorf("exit %v, want %d", err, record.ExitUnsupported)
	}
	for _, says := range []string{database, "1048576", "install that version again; nothing has been changed"} {
		if !strings.Contains(string(out), says) {
			t.Errorf("the refusal does not say %q:\n%s", says, out)
		}
	}
	if now, err := os.ReadFile(database); err != nil || !bytes.Equal(now, newer) {
		t.Errorf("the database was changed (%v)", err)
	}
	if files, _ := filepath.Glob(filepath.Join(h.dir, "state", "*")); len(files) != 3 { // jobs, lock
		t.Errorf("there are %q", files)
	}
}
