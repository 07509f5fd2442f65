package main_test

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"storaged/internal/image"
	"storaged/internal/record"
	"storaged/internal/service"
)

// verify reads a volume of the pool to the end of the job.
func (h *host) verify(volume, want string) record.Job {
	h.t.Helper()
	st, err := h.client.Start(h.ctx(), service.Submit{}, record.VolumeVerify, on("pool", volume), service.VolumeVerify{Checksum: want})
	return h.end(st, err)
}

// ctl runs storagedctl and gives what it wrote and its exit code.
func (h *host) ctl(args ...string) (out, errs string, code int) {
	h.t.Helper()
	cmd := exec.CommandContext(h.ctx(), filepath.Join(bin, "storagedctl"), append([]string{"--socket", h.sock}, args...)...)
	var o, e strings.Builder
	cmd.Stdout, cmd.Stderr = &o, &e
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		h.t.Fatal(err)
	}
	return o.String(), e.String(), cmd.ProcessState.ExitCode()
}

func TestVerifyGivesTheChecksumOfAVolume(t *testing.T) {
	h := newHost(t)
	want := "sha256:" + h.random("base", 3*mib+7*512)
	j := h.verify("base", "")
	if j.State != record.Succeeded || j.Class != record.Async || j.Result.Checksum != want || j.Result.Verified != nil {
		t.Errorf("%s %s: %+v", j.State, j.Class, j.Result)
	}
	if r := j.Result; r.Pool != "pool" || r.Volume != "base" || r.Path != h.path("base") || r.Bytes != 3*mib+7*512 || r.Capacity != r.Bytes {
		t.Errorf("result is %+v", r)
	}
	if len(j.Objects) != 1 || j.Objects[0] != (record.Object{Pool: "pool", Volume: "base", Mode: record.ModeRead}) {
		t.Errorf("it held %v", j.Objects)
	}
	j = h.verify("base", strings.ToUpper(want))
	if j.State != record.Succeeded || j.Result.Verified == nil || !*j.Result.Verified {
		t.Errorf("%s: %+v", j.State, j.Result)
	}
}

func TestVerifyFindsADifference(t *testing.T) {
	h := newHost(t)
	had := "sha256:" + h.random("base", mib)
	f, err := os.OpenFile(h.path("base"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("another guest was here"), mib/2); err != nil {
		t.Fatal(err)
	}
	f.Close()
	j := h.verify("base", had)
	if j.State != record.Failed || j.Code() != record.Mismatch || j.ExitCode() != record.ExitMismatch || j.Rollback != record.RollbackNone {
		t.Errorf("%s: %+v, rollback %s", j.State, j.Error, j.Rollback)
	}
	if j.Result == nil || j.Result.Checksum != "sha256:"+h.hash("base") || *j.Result.Verified {
		t.Errorf("what it has instead: %+v", j.Result)
	}
	v, err := h.client.Volume(h.ctx(), "pool", "base")
	if err != nil || v.State != record.VolumeReady {
		t.Errorf("the volume is %+v, %v", v, err)
	}
	out, errs, code := h.ctl("vol", "verify", "pool/base", "--checksum", had)
	if code != record.ExitMismatch || out != "sha256:"+h.hash("base")+"  pool/base\n" || !strings.Contains(errs, "not "+had) {
		t.Errorf("exit %d, %q, %q", code, out, errs)
	}
}

// recorded is the checksum that the catalogue has of a volume.
func (h *host) recorded(volume string) *record.Recorded {
	h.t.Helper()
	v, err := h.client.Volume(h.ctx(), "pool", volume)
	if err != nil {
		h.t.Fatal(err)
	}
	return v.Checksum
}

// scribble changes a byte in the middle of a volume past the daemon.
func (h *host) scribble(volume string, b byte) {
	h.t.Helper()
	f, err := os.OpenFile(h.path(volume), os.O_WRONLY, 0)
	if err != nil {
		h.t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte{b}, mib/2); err != nil {
		h.t.Fatal(err)
	}
}

func TestVerifyComparesWithWhatWasRecorded(t *testing.T) {
	h := newHost(t)
	had := "sha256:" + h.random("base", mib)
	first := h.verify("base", "")
	r := h.recorded("base")
	if r == nil || r.Checksum != had || r.Job != first.Number || !r.Current {
		t.Fatalf("recorded %+v", r)
	}
	text := "the daemon knows of it"
	if _, err := h.client.PatchVolume(h.ctx(), service.Submit{}, "pool", "base", service.VolumePatch{Description: &text}); err != nil {
		t.Fatal(err)
	}
	h.kill()
	h.start()
	j := h.verify("base", "")
	if j.State != record.Succeeded || j.Result.Verified == nil || !*j.Result.Verified || len(j.Warnings) > 0 {
		t.Errorf("unchanged: %s %+v, %+v, %q", j.State, j.Error, j.Result, j.Warnings)
	}
	if out, _, _ := h.ctl("vol", "show", "pool/base"); !strings.Contains(out, had) || strings.Contains(out, "out of date") {
		t.Errorf("shown as %s", out)
	}
}

// The helper is given what was recorded, as if the file had not been changed:
// nobody here can damage a disk below its file system.
func TestVerifyFindsDamage(t *testing.T) {
	h := newHost(t)
	had := "sha256:" + h.random("base", mib)
	h.verify("base", "")
	h.scribble("base", 1)
	st, err := os.Stat(h.path("base"))
	if err != nil {
		t.Fatal(err)
	}
	change := st.Sys().(*syscall.Stat_t).Ctim.Nano()
	cmd := exec.CommandContext(h.ctx(), filepath.Join(bin, "storage-helper"), "verify", "--target", h.path("base"),
		"--checksum", had, "--recorded-change", strconv.FormatInt(change, 10))
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != record.ExitMismatch || !strings.Contains(string(out), "not "+had+" as was recorded") {
		t.Errorf("%v: %s", err, out)
	}
}

func TestRecordedChecksumGetsOutOfDate(t *testing.T) {
	h := newHost(t)
	change := map[string]func(){
		"written to by somebody else": func() { h.scribble("base", 1) },
		"wiped": func() {
			st, err := h.wipe("base")
			h.succeed(st, err)
		},
	}
	h.random("base", mib)
	for _, name := range []string{"written to by somebody else", "wiped"} {
		if j := h.verify("base", ""); !h.recorded("base").Current {
			t.Fatalf("%s: recorded %+v", j.State, h.recorded("base"))
		}
		change[name]()
		j := h.verify("base", "")
		if j.State != record.Succeeded || j.Result.Verified != nil || len(j.Warnings) != 1 || !strings.Contains(j.Warnings[0], "out of date") {
			t.Errorf("%s: %s %+v, %+v, %q", name, j.State, j.Error, j.Result, j.Warnings)
		}
		if r := h.recorded("base"); r.Checksum != "sha256:"+h.hash("base") || !r.Current || r.Job != j.Number {
			t.Errorf("%s: recorded anew is %+v", name, r)
		}
	}
	h.scribble("base", 2)
	st, err := h.client.Start(h.ctx(), service.Submit{}, record.PoolRefresh, on("pool"), service.JobOptions{})
	h.succeed(st, err)
	if r := h.recorded("base"); r.Current {
		t.Errorf("a refresh has seen the change, but recorded is %+v", r)
	}
	if out, _, _ := h.ctl("vol", "show", "pool/base"); !strings.Contains(out, "out of date") {
		t.Errorf("shown as %s", out)
	}
}

func TestRecordedChecksumIsOfOneFile(t *testing.T) {
	h := newHost(t)
	h.random("base", mib)
	is := "sha256:" + h.random("other", mib)
	h.verify("base", "")
	if err := os.Rename(h.path("other"), h.path("base")); err != nil {
		t.Fatal(err)
	}
	j := h.verify("base", "")
	if j.State != record.Failed || j.Code() != record.Changed || h.recorded("base") != nil {
		t.Errorf("%s %+v, recorded %+v", j.State, j.Error, h.recorded("base"))
	}
	st, err := h.client.Start(h.ctx(), service.Submit{}, record.PoolRefresh, on("pool"), service.JobOptions{})
	h.succeed(st, err)
	if r := h.recorded("base"); r != nil {
		t.Errorf("another file has %+v", r)
	}
	if j := h.verify("base", ""); j.State != record.Succeeded || len(j.Warnings) > 0 || h.recorded("base").Checksum != is {
		t.Errorf("%s %+v, %q, recorded %+v, want %s", j.State, j.Error, j.Warnings, h.recorded("base"), is)
	}
}

func TestUploadOfTheWholeRecordsItsChecksum(t *testing.T) {
	h := newHost(t)
	h.random("from", mib)
	h.create("all", mib)
	h.create("part", 2*mib)
	for _, to := range []string{"all", "part"} {
		if _, errs, code := h.ctl("vol", "upload", "pool/"+to, h.path("from"), "--yes"); code != 0 {
			t.Fatalf("exit %d: %s", code, errs)
		}
	}
	if r := h.recorded("part"); r != nil {
		t.Errorf("of a part is recorded %+v", r)
	}
	r := h.recorded("all")
	if r == nil || !r.Current {
		t.Fatalf("recorded %+v", r)
	}
	if j := h.verify("all", ""); j.Result.Verified == nil || !*j.Result.Verified || j.Result.Checksum != r.Checksum {
		t.Errorf("%s %+v: %+v, %q", j.State, j.Error, j.Result, j.Warnings)
	}
}

func TestVerifyByCRC(t *testing.T) {
	h := newHost(t)
	h.random("base", mib)
	out, _, code := h.ctl("vol", "verify", "pool/base", "--checksum", "crc32c")
	sum, _, _ := strings.Cut(out, " ")
	if r := h.recorded("base"); code != 0 || !strings.HasPrefix(sum, "crc32c:") || r == nil || r.Checksum != sum {
		t.Errorf("exit %d, %q, recorded %+v", code, out, r)
	}
	if j := h.verify("base", ""); j.Result.Checksum != sum || j.Result.Verified == nil { // by the recorded algorithm
		t.Errorf("%+v", j.Result)
	}
	if j := h.verify("base", "crc32c:00000000"); j.Code() != record.Mismatch || h.recorded("base").Checksum != sum {
		t.Errorf("%+v, recorded %+v", j.Error, h.recorded("base"))
	}
}

func TestVerifyRefusesWhatCannotBeReliedOn(t *testing.T) {
	h := newHost(t)
	h.create("v", mib)
	_, err := h.client.Start(h.ctx(), service.Submit{}, record.VolumeVerify, on("pool", "v"), service.VolumeVerify{Checksum: "md5:00"})
	if record.CodeOf(err) != record.Invalid {
		t.Errorf("a bad checksum: %v", err)
	}
	_, err = h.client.Start(h.ctx(), service.Submit{}, record.VolumeVerify, on("pool", "none"), service.VolumeVerify{})
	if record.CodeOf(err) != record.NotFound {
		t.Errorf("no such volume: %v", err)
	}
	if err := os.Remove(h.path("v")); err != nil {
		t.Fatal(err)
	}
	if j := h.verify("v", ""); j.State != record.Failed || j.Code() != record.NotFound || j.Result != nil {
		t.Errorf("gone behind our back: %s %+v %+v", j.State, j.Error, j.Result)
	}
}

// verifyPool starts to read the pool at a rate.
func (h *host) verifyPool(rate int64) service.Started {
	h.t.Helper()
	st, err := h.client.Start(h.ctx(), service.Submit{}, record.PoolVerify, on("pool"), limited(rate))
	if err != nil {
		h.t.Fatal(err)
	}
	return st
}

// fared gives state and checksum of each volume of a job over many.
func fared(j record.Job) map[string]string {
	out := map[string]string{}
	if j.Result != nil {
		for _, i := range j.Result.Items {
			out[i.Volume] = strings.TrimSpace(i.State + " " + i.Checksum)
		}
	}
	return out
}

func TestPoolVerifyLetsShortJobsInBetweenVolumes(t *testing.T) {
	h := newHost(t)
	for _, name := range []string{"a", "b", "c", "d"} {
		h.random(name, 4*mib)
	}
	verify := h.verifyPool(4 * mib)
	h.running(verify)
	now := time.Duration(0)
	_, err := h.client.Start(h.ctx(), service.Submit{LockWait: &now}, record.VolumeDelete, on("pool", "c"), service.VolumeDelete{})
	if e, ok := err.(*record.Error); !ok || e.Code != record.Busy || e.Holders[0].Holder.Number != verify.Job.Number {
		t.Errorf("while a volume is read: %v", err)
	}
	grow, err := h.resize("b", service.VolumeResize{Capacity: 5 * mib})
	if err != nil {
		t.Fatal(err)
	}
	h.promised(grow)
	h.succeed(grow, nil)
	st, err := h.remove("c")
	h.succeed(st, err)
	if j, err := h.client.Job(h.ctx(), verify.Job.ID); err != nil || j.State.Terminal() {
		t.Errorf("the visitors had to wait for its end: %s, %v", j.State, err)
	}
	if _, err := h.client.PatchJob(h.ctx(), verify.Job.ID, service.JobPatch{Limit: []byte("null")}); err != nil {
		t.Fatal(err)
	}
	j := h.succeed(verify, nil)
	want := map[string]string{
		"a": "succeeded sha256:" + h.hash("a"), "b": "succeeded sha256:" + h.hash("b"), "c": "skipped", "d": "succeeded sha256:" + h.hash("d"),
	}
	if got := fared(j); !maps.Equal(got, want) {
		t.Errorf("volumes %v, want %v", got, want)
	}
	if r := j.Result; r.Pool != "pool" || r.Path != h.pool || r.Bytes != 13*mib || *j.Progress.Percent != 100 {
		t.Errorf("result %+v, progress %+v", r, j.Progress)
	}
	if p, err := h.client.Pool(h.ctx(), "pool"); err != nil || p.State != record.PoolActive {
		t.Errorf("the pool is %+v, %v", p, err)
	}
}

// promised waits until a job that waits is told of the next window.
func (h *host) promised(st service.Started) {
	h.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		j, err := h.client.Job(h.ctx(), st.Job.ID)
		if err != nil || j.State != record.Queued {
			h.t.Errorf("it is %s and was never told of a window, %v", j.State, err)
			return
		}
		if len(j.WaitingOn) > 0 && j.WaitingOn[0].NextWindow != nil {
			return
		}
	}
}

func TestPoolVerifyNamesWhatCannotBeRead(t *testing.T) {
	h := newHost(t)
	h.random("good", mib)
	h.create("other", mib)
	h.create("locked", mib)
	holdImage(t, h.path("locked"))
	out, errs, code := h.ctl("pool", "verify", "pool")
	if code != record.ExitPartial || !strings.Contains(errs, "1 of 3 volumes") || !strings.Contains(errs, "locked") {
		t.Errorf("exit %d: %s", code, errs)
	}
	if !strings.Contains(out, "sha256:"+h.hash("good")+"  pool/good\n") || strings.Count(out, "\n") != 2 {
		t.Errorf("%q", out)
	}
	jobs, err := h.client.Jobs(h.ctx(), service.JobFilter{Kinds: []string{"pool.verify"}}, service.Page{})
	if err != nil || len(jobs.Items) != 1 {
		t.Fatalf("%+v, %v", jobs, err)
	}
	j := jobs.Items[0]
	if got := fared(j); got["locked"] != "failed" || j.Code() != record.Partial || j.Class != record.Async {
		t.Errorf("%s %+v: %v", j.Class, j.Error, got)
	}
	for _, i := range j.Result.Items {
		if i.Volume == "locked" && (i.Error == nil || i.Error.Code != record.Busy) {
			t.Errorf("%+v", i.Error)
		}
	}
}

// holdImage locks a volume as a running guest does.
func holdImage(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := image.LockExclusive(f); err != nil {
		t.Fatal(err)
	}
}

func TestPoolVerifyOutlivesTheDaemon(t *testing.T) {
	h := newHost(t)
	want := map[string]string{}
	for _, name := range []string{"a", "b", "c"} {
		want[name] = "succeeded sha256:" + h.random(name, 2*mib)
	}
	verify := h.verifyPool(4 * mib)
	before := h.running(verify)
	h.kill()
	h.start()
	st, err := h.resize("a", service.VolumeResize{Capacity: 3 * mib})
	h.succeed(st, err)
	j := h.succeed(verify, nil)
	if got := fared(j); !maps.Equal(got, want) || j.Helper.PID != before.Helper.PID {
		t.Errorf("volumes %v, want %v; helper %d, was %d", got, want, j.Helper.PID, before.Helper.PID)
	}
}

func TestInactivePoolIsNotVerified(t *testing.T) {
	h := newHost(t)
	st, err := h.client.Start(h.ctx(), service.Submit{}, record.PoolStop, on("pool"), service.PoolStop{})
	h.succeed(st, err)
	if _, err := h.client.Start(h.ctx(), service.Submit{}, record.PoolVerify, on("pool"), service.JobOptions{}); record.CodeOf(err) != record.WrongState {
		t.Errorf("got %v", err)
	}
}
