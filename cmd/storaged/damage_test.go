package main_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/testenv"
)

func (h *host) database() string { return filepath.Join(h.dir, "state", "storaged.db") }

// await returns when done gives true; it looks again whenever tick says.
func (h *host) await(what string, done func() bool) {
	h.t.Helper()
	tick, ctx := newTick(h.t), h.ctx()
	for !done() {
		select {
		case <-tick:
		case <-ctx.Done():
			h.t.Fatalf("%s did not come true", what)
		}
	}
}

// copied starts the daemon anew, and returns when it has copied its database.
func (h *host) copied() {
	h.t.Helper()
	h.stop()
	h.must(os.RemoveAll(filepath.Join(h.dir, "state", "copies")))
	h.start()
	h.await("a copy of the database", func() bool {
		copies, _ := filepath.Glob(filepath.Join(h.dir, "state", "copies", "*.db"))
		return len(copies) == 1
	})
}

// TestDamagedDatabaseIsMadeGoodByCopyAndJobDirectories loses the database
// behind the back of a killed daemon, after jobs of each fate.
func TestDamagedDatabaseIsMadeGoodByCopyAndJobDirectories(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	ctx := h.ctx()
	want := h.random("base", 32*mib)
	h.sparse("goes", mib)
	h.copied()

	made := h.succeed(h.clone("base", "made", noReflink))
	gone := h.succeed(h.remove("goes"))
	st := h.began(h.clone("base", "slow", noReflink, limited(8*mib)))
	slow := h.running(st)
	h.kill()
	damaged := []byte("nothing of this is a database")
	h.must(os.WriteFile(h.database(), damaged, 0o600))
	h.start()

	for _, was := range []record.Job{made, gone} {
		j, err := h.client.Job(ctx, was.ID)
		if err != nil || j.State != record.Succeeded || j.Number != was.Number || !mentions(j.Warnings, "database was damaged") {
			t.Errorf("job %d (%s) is %s (%v)", was.Number, was.Kind, outcome(j), err)
		}
	}
	if now, err := h.client.Job(ctx, slow.ID); err != nil || now.Helper == nil || now.Helper.PID != slow.Helper.PID {
		t.Errorf("the running job is %s (%v), its helper was %d", outcome(now), err, slow.Helper.PID)
	}
	h.is("made", record.Volume{State: record.VolumeReady, Origin: record.Made, Format: "raw"})
	h.unknown("goes")
	h.told(damaged)
	h.succeed(st, nil)
	if h.hash("slow") != want || h.hash("made") != want {
		t.Error("a clone differs from its source")
	}
	if j := h.sparse("after", mib); j.Number <= slow.Number {
		t.Errorf("number %d is given again", j.Number)
	}
}

func mentions(texts []string, what string) bool {
	return slices.ContainsFunc(texts, func(s string) bool { return strings.Contains(s, what) })
}

// told checks that status tells of the damage as long as the damaged file is
// there, and that this is the file.
func (h *host) told(damaged []byte) {
	h.t.Helper()
	aside, _ := filepath.Glob(h.database() + ".damaged-*")
	if len(aside) != 1 {
		h.t.Fatalf("the damaged file is kept as %q", aside)
	}
	if b, err := os.ReadFile(aside[0]); err != nil || !slices.Equal(b, damaged) {
		h.t.Errorf("what is kept is not the damaged file (%v)", err)
	}
	st, err := h.client.Status(h.ctx())
	if err != nil || !mentions(st.Warnings, aside[0]) || !mentions(st.Warnings, "may be missing") {
		h.t.Errorf("status warns of %q (%v)", st.Warnings, err)
	}
	h.must(os.Remove(aside[0]))
	if st, err = h.client.Status(h.ctx()); err != nil || len(st.Warnings) > 0 {
		h.t.Errorf("afterwards status warns of %q (%v)", st.Warnings, err)
	}
}

// TestJobThatOnlyACopyKnowsIsHeld cancels a waiting job after the copy, which
// therefore still has it waiting.
func TestJobThatOnlyACopyKnowsIsHeld(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	ctx := h.ctx()
	h.random("base", 16*mib)
	first := h.began(h.wipe("base", limited(mib)))
	h.running(first)
	second := h.began(h.wipe("base"))
	h.copied()
	for _, st := range []started{second, first} {
		h.cancel(st)
		h.end(st, nil)
	}
	h.kill()
	h.must(os.Remove(h.database()))
	h.start()
	j, err := h.client.Job(ctx, second.Job.ID)
	if err != nil || j.State != record.Queued || !slices.Contains(j.PauseReasons, "restored") {
		t.Errorf("the job that was canceled while it waited is %s (%v)", outcome(j), err)
	}
	h.jobIs(h.job(first), record.Job{State: record.Canceled})
	h.resume(second)
	h.succeed(second, nil)
}

// TestDatabaseFromACopyVouchesForNobodyWhoGoesOn has a job write to a volume
// after the copy, and forgets it: nothing tells of it but the volume.
func TestDatabaseFromACopyVouchesForNobodyWhoGoesOn(t *testing.T) {
	t.Parallel()
	h := configured(t, "[resume]\nwipe = \"keep\"\n")
	first := h.interruptedWipe()
	h.copied()
	secret, content := h.given("secret", 2*mib)
	at := first.Resumable.Done - 2*mib // where the first one was last
	st, err := h.hand("a", secret, offset(at))
	h.succeed(st, err)
	h.holds("a", int(at), content, record.VolumeIncomplete)
	h.forget(*st.Job)
	h.kill()
	h.must(os.Remove(h.database()))
	h.start()
	if j := h.retried(first); !mentions(j.Warnings, "begun anew: it is not known whether another job has changed the volume") {
		t.Errorf("warnings %q", j.Warnings)
	}
	h.holds("a", 0, make([]byte, 64*mib), record.VolumeReady)
}

// TestFullStateDirectoryHoldsNobodyUpForEver fills the file system of the state
// while a job runs. The job ends when there is room again, and has succeeded.
func TestFullStateDirectoryHoldsNobodyUpForEver(t *testing.T) {
	t.Parallel()
	dir, state := t.TempDir(), testenv.Mount(t, "ext4")
	if err := os.Symlink(state, filepath.Join(dir, "state")); err != nil {
		t.Fatal(err)
	}
	h := newHostIn(t, dir)
	ctx := h.ctx()
	want := h.random("base", 16*mib)
	st := h.began(h.clone("base", "copy", noReflink, limited(mib/4)))
	h.running(st)
	ballast := fillUp(t, state)
	// There may be room within the database, but not for what a job leaves.
	h.refuses(record.StateUnwritable)(h.create("new", mib))
	if s, err := h.client.Status(ctx); err != nil || s.State != "state_unwritable" || len(s.Warnings) == 0 {
		t.Errorf("status is %s, %q (%v)", s.State, s.Warnings, err)
	}
	if _, err := h.client.PatchJob(ctx, st.Job.ID, contract.JobPatch{Limit: []byte("null")}); err != nil {
		t.Error(err)
	}
	h.await("the result that cannot be saved", func() bool {
		j, err := h.client.Job(ctx, st.Job.ID)
		return err == nil && (mentions(j.Warnings, "cannot be saved yet") || j.State.Terminal())
	})
	h.must(os.Remove(ballast))
	h.succeed(st, nil)
	h.hasHash("copy", want)
	h.sparse("after", mib)
	if s, err := h.client.Status(ctx); err != nil || s.State != "ready" {
		t.Errorf("status is %s, %q (%v)", s.State, s.Warnings, err)
	}
}

// fillUp takes all the room of a file system, and gives the file to remove.
func fillUp(t *testing.T, dir string) string {
	path := filepath.Join(dir, ".ballast")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()                                           // what it holds does not matter
	for at, piece := int64(0), int64(64*mib); piece >= 512; { // the size of the smallest blocks
		err := syscall.Fallocate(int(f.Fd()), 0, at, piece)
		switch {
		case errors.Is(err, syscall.ENOSPC):
			piece /= 2
		case err != nil:
			t.Fatal(err)
		default:
			at += piece
		}
	}
	return path
}

// figures is what Prometheus is told.
func (h *host) figures() string {
	h.t.Helper()
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", h.sock)
	}
	transport := &http.Transport{DialContext: dial, DisableKeepAlives: true}
	got := must((&http.Client{Transport: transport}).Get("http://storaged/metrics"))(h.t)
	defer got.Body.Close()
	text := string(must(io.ReadAll(got.Body))(h.t))
	if got.StatusCode != http.StatusOK {
		h.t.Errorf("figures: %s\n%s", got.Status, text)
	}
	return text
}

// changes puts other bytes of the same length in the place of some in the database, behind
// the back of the daemon.
func (h *host) changes(from, to string) {
	h.t.Helper()
	b := must(os.ReadFile(h.database()))(h.t)
	f := must(os.OpenFile(h.database(), os.O_WRONLY, 0))(h.t)
	defer f.Close()
	n := 0
	for at := 0; ; n++ {
		i := bytes.Index(b[at:], []byte(from))
		if i < 0 {
			break
		}
		must(f.WriteAt([]byte(to), int64(at+i)))(h.t)
		at += i + len(from)
	}
	if n == 0 {
		h.t.Fatalf("%q is not in the database", from)
	}
}

// A record that is damaged takes no others from those who watch, and is counted.
func TestFiguresLeaveOutWhatIsDamaged(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.sparse("a", mib)
	h.sparse("b", mib)
	const mark, damaged = "the mark of a record", "the mark of a wreck."
	h.describe("a", mark)
	tells := func(lines ...string) {
		t.Helper()
		got := h.figures()
		for _, line := range lines {
			if !strings.Contains(got, "\n"+line+"\n") {
				t.Errorf("there is no line %q", line)
			}
		}
	}
	tells(`storaged_volumes{pool="pool",state="ready"} 2`, `storaged_damaged_records{of="volume"} 0`, `storaged_damaged_records{of="pool"} 0`)
	h.changes(mark, damaged)
	tells(`storaged_volumes{pool="pool",state="ready"} 1`, `storaged_damaged_records{of="volume"} 1`, `storaged_pool_state{pool="pool",state="active"} 1`)
	h.changes(damaged, mark)
	tells(`storaged_volumes{pool="pool",state="ready"} 2`, `storaged_damaged_records{of="volume"} 0`)
}
