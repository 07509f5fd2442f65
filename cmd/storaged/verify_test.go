package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"storaged/internal/api"
	"storaged/internal/record"
)

// verify reads a volume of the pool to the end of the job.
func (h *host) verify(volume, want string) record.Job {
	h.t.Helper()
	st, err := h.client.VerifyVolume(h.ctx(), api.Submit{}, "pool", volume, api.VolumeVerify{Checksum: want})
	return h.end(st, err)
}

// ctl runs storagectl and gives what it wrote and its exit code.
func (h *host) ctl(args ...string) (out, errs string, code int) {
	h.t.Helper()
	cmd := exec.CommandContext(h.ctx(), filepath.Join(bin, "storagectl"), append([]string{"--socket", h.sock}, args...)...)
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

func TestVerifyRefusesWhatCannotBeReliedOn(t *testing.T) {
	h := newHost(t)
	h.create("v", mib)
	_, err := h.client.VerifyVolume(h.ctx(), api.Submit{}, "pool", "v", api.VolumeVerify{Checksum: "md5:00"})
	if record.CodeOf(err) != record.Invalid {
		t.Errorf("a bad checksum: %v", err)
	}
	_, err = h.client.VerifyVolume(h.ctx(), api.Submit{}, "pool", "none", api.VolumeVerify{})
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
