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
	"storaged/internal/service/contract"
)

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
	t.Parallel()
	h := newHost(t)
	want := "sha256:" + h.random("base", 3*mib+7*512)
	j := h.end(h.verify("base"))
	if j.State != record.Succeeded || j.Class != record.Async || j.Result.Checksum != want || j.Result.Verified != nil {
		t.Errorf("%s %s: %s", j.State, j.Class, shown(j.Result))
	}
	if r := j.Result; r.Pool != "pool" || r.Volume != "base" || r.Path != h.path("base") || r.Bytes != 3*mib+7*512 || r.Capacity != r.Bytes {
		t.Errorf("result is %s", shown(r))
	}
	if len(j.Objects) != 1 || j.Objects[0] != (record.Object{Pool: "pool", Volume: "base", Mode: record.ModeRead}) {
		t.Errorf("it held %v", j.Objects)
	}
	j = h.end(h.verify("base", checksum(strings.ToUpper(want))))
	if j.State != record.Succeeded || j.Result.Verified == nil || !*j.Result.Verified {
		t.Errorf("%s: %s", j.State, shown(j.Result))
	}
}

// Who reads a volume has seen it: when it was read last follows, and what others have made
// of it meanwhile.
func TestVolumeIsSeenByWhoReadsIt(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.random("base", mib)
	h.image("pool", "-f", "qcow2", h.path("image"), "1M")
	for what, c := range map[string]struct {
		name string
		read func() (started, error)
	}{
		"verify": {"base", func() (started, error) { return h.verify("base") }},
		"check":  {"image", func() (started, error) { return h.checked("image") }},
	} {
		h.must(os.Chmod(h.path(c.name), 0o604))
		j := h.succeed(c.read())
		if v := h.entry(c.name); v.Observed.Before(*j.Started) || v.Permissions.Mode != "0604" {
			t.Errorf("%s at %v: it was read at %v with %s", what, j.Started, v.Observed, v.Permissions)
		}
		h.must(os.Chmod(h.path(c.name), 0o600))
		h.must(h.refresh("pool"))
	}
}

func TestVerifyFindsADifference(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	had := "sha256:" + h.random("base", mib)
	f := must(os.OpenFile(h.path("base"), os.O_WRONLY, 0))(t)
	if _, err := f.WriteAt([]byte("another guest was here"), mib/2); err != nil {
		t.Fatal(err)
	}
	f.Close()
	j := h.end(h.verify("base", checksum(had)))
	if j.State != record.Failed || j.Code() != record.Mismatch || j.ExitCode() != record.ExitMismatch || j.Rollback != record.RollbackNone {
		t.Errorf("%s, rollback %s", outcome(j), j.Rollback)
	}
	if j.Result == nil || j.Result.Checksum != "sha256:"+h.hash("base") || *j.Result.Verified {
		t.Errorf("what it has instead: %s", shown(j.Result))
	}
	h.is("base", record.Volume{State: record.VolumeReady})
	out, errs, code := h.ctl("vol", "verify", "pool/base", "--checksum", had)
	if code != record.ExitMismatch || out != "sha256:"+h.hash("base")+"  pool/base\n" || !strings.Contains(errs, "not "+had) {
		t.Errorf("exit %d, %q, %q", code, out, errs)
	}
}

// recorded is the checksum that the catalog has of a volume.
func (h *host) recorded(volume string) *record.Recorded {
	h.t.Helper()
	v := h.entry(volume)
	return v.Checksum
}

// scribble changes a byte in the middle of a volume past the daemon.
func (h *host) scribble(volume string, b byte) {
	h.t.Helper()
	f := must(os.OpenFile(h.path(volume), os.O_WRONLY, 0))(h.t)
	defer f.Close()
	if _, err := f.WriteAt([]byte{b}, mib/2); err != nil {
		h.t.Fatal(err)
	}
}

func TestVerifyComparesWithWhatWasRecorded(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	had := "sha256:" + h.random("base", mib)
	first := h.end(h.verify("base"))
	r := h.recorded("base")
	if r == nil || r.Checksum != had || r.Job != first.Number || !r.Current {
		t.Fatalf("recorded %s", shown(r))
	}
	h.describe("base", "the daemon knows of it")
	h.kill()
	h.start()
	j := h.end(h.verify("base"))
	if j.State != record.Succeeded || j.Result.Verified == nil || !*j.Result.Verified || len(j.Warnings) > 0 {
		t.Errorf("unchanged: %s, %s, %q", outcome(j), shown(j.Result), j.Warnings)
	}
	if out, _, _ := h.ctl("vol", "show", "pool/base"); !strings.Contains(out, had) || strings.Contains(out, "out of date") {
		t.Errorf("shown as %s", out)
	}
}

// The helper is given what was recorded, as if the file had not been changed:
// nobody here can damage a disk below its file system.
func TestVerifyFindsDamage(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	had := "sha256:" + h.random("base", mib)
	h.end(h.verify("base"))
	h.scribble("base", 1)
	st := must(os.Stat(h.path("base")))(t)
	change := st.Sys().(*syscall.Stat_t).Ctim.Nano()
	cmd := exec.CommandContext(h.ctx(), filepath.Join(bin, "storage-helper"), "verify", "--target", h.path("base"),
		"--checksum", had, "--recorded-change", strconv.FormatInt(change, 10))
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != record.ExitMismatch || !strings.Contains(string(out), "not "+had+" as was recorded") {
		t.Errorf("%v: %s", err, out)
	}
}

func TestRecordedChecksumGetsOutOfDate(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	change := map[string]func(){
		"written to by somebody else": func() { h.scribble("base", 1) },
		"wiped": func() {
			h.succeed(h.wipe("base"))
		},
	}
	h.random("base", mib)
	for _, name := range []string{"written to by somebody else", "wiped"} {
		if j := h.end(h.verify("base")); !h.recorded("base").Current {
			t.Fatalf("%s: recorded %s", j.State, shown(h.recorded("base")))
		}
		change[name]()
		j := h.end(h.verify("base"))
		if j.State != record.Succeeded || j.Result.Verified != nil || len(j.Warnings) != 1 || !strings.Contains(j.Warnings[0], "out of date") {
			t.Errorf("%s: %s, %s, %q", name, outcome(j), shown(j.Result), j.Warnings)
		}
		if r := h.recorded("base"); r.Checksum != "sha256:"+h.hash("base") || !r.Current || r.Job != j.Number {
			t.Errorf("%s: recorded anew is %s", name, shown(r))
		}
	}
	h.scribble("base", 2)
	h.succeed(h.refreshPool("pool"))
	if r := h.recorded("base"); r.Current {
		t.Errorf("a refresh has seen the change, but recorded is %s", shown(r))
	}
	if out, _, _ := h.ctl("vol", "show", "pool/base"); !strings.Contains(out, "out of date") {
		t.Errorf("shown as %s", out)
	}
}

func TestRecordedChecksumIsOfOneFile(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.random("base", mib)
	is := "sha256:" + h.random("other", mib)
	h.end(h.verify("base"))
	h.must(os.Rename(h.path("other"), h.path("base")))
	j := h.end(h.verify("base"))
	if j.State != record.Failed || j.Code() != record.Changed || h.recorded("base") != nil {
		t.Errorf("%s, recorded %s", outcome(j), shown(h.recorded("base")))
	}
	h.succeed(h.refreshPool("pool"))
	if r := h.recorded("base"); r != nil {
		t.Errorf("another file has %s", shown(r))
	}
	if j := h.end(h.verify("base")); j.State != record.Succeeded || len(j.Warnings) > 0 || h.recorded("base").Checksum != is {
		t.Errorf("%s, %q, recorded %s, want %s", outcome(j), j.Warnings, shown(h.recorded("base")), is)
	}
}

func TestUploadOfTheWholeRecordsItsChecksum(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.random("from", mib)
	h.sparse("all", mib)
	h.sparse("part", 2*mib)
	for _, to := range []string{"all", "part"} {
		if _, errs, code := h.ctl("vol", "upload", "pool/"+to, h.path("from"), "--yes"); code != 0 {
			t.Fatalf("exit %d: %s", code, errs)
		}
	}
	if r := h.recorded("part"); r != nil {
		t.Errorf("of a part is recorded %s", shown(r))
	}
	r := h.recorded("all")
	if r == nil || !r.Current {
		t.Fatalf("recorded %s", shown(r))
	}
	if j := h.end(h.verify("all")); j.Result.Verified == nil || !*j.Result.Verified || j.Result.Checksum != r.Checksum {
		t.Errorf("%s: %s, %q", outcome(j), shown(j.Result), j.Warnings)
	}
}

func TestVerifyByCRC(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.random("base", mib)
	out, _, code := h.ctl("vol", "verify", "pool/base", "--checksum", "crc32c")
	sum, _, _ := strings.Cut(out, " ")
	if r := h.recorded("base"); code != 0 || !strings.HasPrefix(sum, "crc32c:") || r == nil || r.Checksum != sum {
		t.Errorf("exit %d, %q, recorded %s", code, out, shown(r))
	}
	if j := h.end(h.verify("base")); j.Result.Checksum != sum || j.Result.Verified == nil {
		t.Error(shown(j.Result))
	}
	if j := h.end(h.verify("base", checksum("crc32c:00000000"))); j.Code() != record.Mismatch || h.recorded("base").Checksum != sum {
		t.Errorf("%s, recorded %s", outcome(j), shown(h.recorded("base")))
	}
}

func TestVerifyRefusesWhatCannotBeReliedOn(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.sparse("v", mib)
	h.refuses(record.Invalid)(h.verify("v", checksum("md5:00")))
	h.refuses(record.NotFound)(h.verify("none"))
	h.must(os.Remove(h.path("v")))
	if j := h.end(h.verify("v")); j.State != record.Failed || j.Code() != record.NotFound || j.Result != nil {
		t.Errorf("gone behind our back: %s %s", outcome(j), shown(j.Result))
	}
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
	t.Parallel()
	h := newHost(t)
	for _, name := range []string{"a", "b", "c", "d"} {
		h.random(name, 4*mib)
	}
	verify := h.began(h.verifyPool("pool", limited(farAway)))
	h.running(verify)
	_, err := h.remove("c", atOnce)
	if e, ok := err.(*record.Error); !ok || e.Code != record.Busy || e.Holders[0].Holder.Number != verify.Job.Number {
		t.Errorf("while a volume is read: %v", err)
	}
	grow := h.began(h.resize("b", 5*mib))
	removed := h.began(h.remove("c"))
	h.promised(grow)
	h.unlimit(verify)
	visitors := []record.Job{h.succeed(grow, nil), h.succeed(removed, nil)}
	j := h.succeed(verify, nil)
	h.cameBetween(j, visitors...)
	want := map[string]string{
		"a": "succeeded sha256:" + h.hash("a"), "b": "succeeded sha256:" + h.hash("b"), "c": "skipped", "d": "succeeded sha256:" + h.hash("d"),
	}
	if got := fared(j); !maps.Equal(got, want) {
		t.Errorf("volumes %v, want %v", got, want)
	}
	if r := j.Result; r.Pool != "pool" || r.Path != h.pool || r.Bytes != 13*mib || *j.Progress.Percent != 100 {
		t.Errorf("result %s, progress %s", shown(r), shown(j.Progress))
	}
	h.poolIs("pool", record.Pool{State: record.PoolActive})
}

// farAway is how fast a job goes whose next window is to come only when the test lets
// it, in bytes a second: a volume takes a minute.
const farAway = 64 << 10

// cameBetween fails unless the visitors had ended before the job that let them in.
func (h *host) cameBetween(host record.Job, visitors ...record.Job) {
	h.t.Helper()
	for _, v := range visitors {
		if !v.Ended.Before(*host.Ended) {
			h.t.Errorf("job %d ended at %v, and had to wait for the end of job %d at %v", v.Number, v.Ended, host.Number, host.Ended)
		}
	}
}

// promised waits until a job that waits is told of the next window.
func (h *host) promised(st started) {
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
	t.Parallel()
	h := newHost(t)
	h.random("good", mib)
	h.sparse("other", mib)
	h.sparse("locked", mib)
	holdImage(t, h.path("locked"))
	out, errs, code := h.ctl("pool", "verify", "pool")
	if code != record.ExitPartial || !strings.Contains(errs, "1 of 3 volumes") || !strings.Contains(errs, "locked") {
		t.Errorf("exit %d: %s", code, errs)
	}
	if !strings.Contains(out, "sha256:"+h.hash("good")+"  pool/good\n") || strings.Count(out, "\n") != 2 {
		t.Errorf("%q", out)
	}
	jobs, err := h.client.Jobs(h.ctx(), contract.JobFilter{Kinds: []string{"pool.verify"}}, contract.Page{})
	if err != nil || len(jobs.Items) != 1 {
		t.Fatalf("%s, %v", shown(jobs), err)
	}
	j := jobs.Items[0]
	if got := fared(j); got["locked"] != "failed" || j.Code() != record.Partial || j.Class != record.Async {
		t.Errorf("%s %s: %v", j.Class, outcome(j), got)
	}
	for _, i := range j.Result.Items {
		if i.Volume == "locked" && (i.Error == nil || i.Error.Code != record.Busy) {
			t.Errorf("%v", i.Error)
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
	t.Parallel()
	h := newHost(t)
	want := map[string]string{}
	for _, name := range []string{"a", "b", "c"} {
		want[name] = "succeeded sha256:" + h.random(name, 2*mib)
	}
	verify := h.began(h.verifyPool("pool", limited(4*mib)))
	before := h.running(verify)
	h.kill()
	h.start()
	h.succeed(h.resize("a", 3*mib))
	j := h.succeed(verify, nil)
	if got := fared(j); !maps.Equal(got, want) || j.Helper.PID != before.Helper.PID {
		t.Errorf("volumes %v, want %v; helper %d, was %d", got, want, j.Helper.PID, before.Helper.PID)
	}
}

func TestInactivePoolIsNotVerified(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.succeed(h.stopPool("pool"))
	h.refuses(record.WrongState)(h.verifyPool("pool"))
}

// A content that differs will do so again: a retry has nothing to go on with.
func TestVerifyThatDiffersIsNotResumable(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.random("v", 64*mib)
	h.runs(record.ExitMismatch, "", "vol", "verify", "pool/v", "--limit", "14M", "--checksum", "sha256:"+strings.Repeat("0", 64))
	if j := h.jobs(contract.JobFilter{Kinds: []string{string(record.VolumeVerify)}})[0]; j.Code() != record.Mismatch || j.Resumable != nil || j.Error.Hint != nil {
		t.Error(outcome(j))
	}
}
