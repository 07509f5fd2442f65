package main_test

import (
	"bytes"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/testenv"
	"storaged/internal/virtrpc/virtrpctest"
)

// virsh starts libvirt's own client, which the test does not wait for.
func (h *host) virsh(args ...string) *program {
	h.t.Helper()
	program := testenv.Tool(h.t, "virsh")
	return h.spawn(func(c *exec.Cmd) {
		c.Path, c.Args = program, append([]string{program, "-c", h.libvirtURI()}, args...)
		c.Env = append(c.Environ(), "LC_ALL=C")
	})
}

func (h *host) libvirtURI() string {
	return virtrpctest.URI(filepath.Join(filepath.Dir(h.sock), "libvirt.sock"))
}

// slowed makes all jobs slow until hurry, so that what takes its time beside other work
// finds them at it.
func (h *host) slowed() (hurry func()) {
	h.patchLimits(contract.LimitsPatch{Rate: []byte("262144")})
	return func() { h.patchLimits(contract.LimitsPatch{Rate: []byte("null")}) }
}

// slowWipe has virsh wipe a volume, which is slow until hurry.
func (h *host) slowWipe() (virsh *program, j record.Job, hurry func()) {
	h.t.Helper()
	h.random("disk", 8*mib)
	hurry = h.slowed()
	virsh = h.virsh("vol-wipe", "disk", "--pool", "pool")
	return virsh, h.running(of(h.newest(record.VolumeWipe))), hurry
}

// Who interrupts virsh leaves a job, which is seen and can be canceled.
func TestWipeWhoseClientLeavesIsSeenAndCanceled(t *testing.T) {
	t.Parallel()
	testenv.Root(t)
	h := newHost(t)
	virsh, j, hurry := h.slowWipe()
	h.must(virsh.Process.Signal(syscall.SIGINT))
	if code := virsh.code(); code == 0 {
		t.Errorf("virsh was not interrupted: %s", virsh.log.String())
	}
	h.runs(0, "volume.wipe", "job", "list")
	if o := j.Owner; o.Via != "libvirt" || o.PID != virsh.Process.Pid || !strings.Contains(o.Command, "virsh") {
		t.Errorf("the job is of %+v", o)
	}
	h.running(of(j))
	h.runs(0, "", "job", "cancel", itoa(int(j.Number)))
	h.jobIs(h.end(of(j), nil), record.Job{State: record.Canceled, Rollback: record.RollbackKept})
	h.is("disk", record.Volume{State: record.VolumeIncomplete, Job: &j.Number})
	hurry()
	if code := h.virsh("vol-wipe", "disk", "--pool", "pool").code(); code != 0 {
		t.Errorf("the next wipe ends with %d", code)
	}
	h.is("disk", record.Volume{State: record.VolumeReady})
}

// A daemon that stops does not wait for the jobs of libvirt's clients, says so to them,
// and the next one goes on with them.
func TestStopDoesNotWaitForJobsOfLibvirtsClients(t *testing.T) {
	t.Parallel()
	testenv.Root(t)
	h := newHost(t)
	virsh, j, hurry := h.slowWipe()
	h.stop()
	if code, want := virsh.code(), "job "+itoa(int(j.Number))+" goes on"; code != 1 || !strings.Contains(virsh.log.String(), want) {
		t.Errorf("virsh ends with %v, and not that %s:\n%s", virsh.ProcessState, want, virsh.log.String())
	}
	h.start()
	hurry()
	h.succeed(of(j), nil)
	h.is("disk", record.Volume{State: record.VolumeReady})
}

// The copy that virsh waits for outlives a killed daemon: it is known as unfinished
// until it is whole.
func TestCloneOfLibvirtsClientOutlivesAKilledDaemon(t *testing.T) {
	t.Parallel()
	testenv.Root(t)
	h := newHost(t)
	want := h.random("disk", 8*mib)
	hurry := h.slowed()
	virsh := h.virsh("vol-clone", "disk", "copy", "--pool", "pool")
	j := h.running(of(h.newest(record.VolumeClone)))
	h.kill()
	if code := virsh.code(); code != 1 || !strings.Contains(virsh.log.String(), "Failed to clone vol") {
		t.Errorf("virsh ends with %d:\n%s", code, virsh.log.String())
	}
	h.start()
	h.runs(0, "pool/copy", "job", "show", itoa(int(j.Number)))
	h.is("copy", record.Volume{State: record.VolumeBuilding, Job: &j.Number})
	if out, ok := virtrpctest.Virsh(t, h.libvirtURI(), "vol-delete", "copy", "--pool", "pool"); ok || !strings.Contains(out, "volume 'copy' is still being allocated.") {
		t.Errorf("of the copy virsh says %s", out)
	}
	if after := h.job(of(j)); after.Helper == nil || after.Helper.PID != j.Helper.PID {
		t.Errorf("the helper was %d, is %s", j.Helper.PID, shown(after.Helper))
	}
	hurry()
	h.succeed(of(j), nil)
	h.hasHash("copy", want)
	h.is("copy", record.Volume{State: record.VolumeReady})
}

// A content of which more comes than was announced has not broken off: its job says what
// was announced, libvirt's clients are told what libvirt tells them and of which job, and
// the volume has what was announced and is incomplete. Others are told the same.
func TestContentLongerThanAnnouncedIsToldSo(t *testing.T) {
	t.Parallel()
	testenv.Root(t)
	h := newHost(t)
	const size, announced = 4 * mib, mib
	path := filepath.Join(h.dir, "src")
	content := noise(2 * mib)
	h.must(os.WriteFile(path, content, 0o600))
	virsh := func(more ...string) func(name string) string {
		return func(name string) string {
			p := h.virsh(append([]string{"vol-upload", name, path, "--pool", "pool", "--length", itoa(announced)}, more...)...)
			if code, said := p.code(), p.log.String(); code != 1 || !strings.Contains(said, "error: cannot write to stream: No space left on device: more bytes came than") {
				t.Errorf("%s: virsh ends with %d: %s", name, code, said)
			}
			return p.log.String()
		}
	}
	for name, up := range map[string]func(name string) string{
		"raw": virsh(), "sparse": virsh("--sparse"),
		"put": func(name string) string {
			status, said := h.answered(http.MethodPut, name+"/content", chunked(content), "Content-Range", "bytes 0-"+itoa(announced-1)+"/*")
			if status != http.StatusBadRequest {
				t.Errorf("the answer is %d: %s", status, said)
			}
			return said
		},
	} {
		h.sparse(name, size)
		said := up(name)
		j := h.jobs(contract.JobFilter{Volumes: []string{"pool/" + name}, Kinds: []string{string(record.VolumeUpload)}})[0]
		h.jobIs(j, record.Job{State: record.Failed, Rollback: record.RollbackKept, Error: &record.Error{Code: record.Invalid}})
		const why = "more bytes came than the 1.00 MiB that were announced"
		if !strings.Contains(j.Error.Message, why) || !strings.Contains(said, why) || name != "put" && !strings.Contains(said, "(job "+itoa(int(j.Number))+")") {
			t.Errorf("%s: the record of job %d says %s, and the client hears %s", name, j.Number, shown(j.Error), said)
		}
		if !strings.Contains(said, "is incomplete: upload a content that is right, from its start") {
			t.Errorf("%s: nothing is said of the volume: %s", name, said)
		}
		h.holds(name, 0, append(bytes.Clone(content[:announced]), make([]byte, size-announced)...), record.VolumeIncomplete)
	}
	h.sparse("small", size)
	status, said := h.answered(http.MethodPut, "small/content", chunked(content[:11]), "Content-Range", "bytes 0-9/*")
	if status != http.StatusBadRequest || !strings.Contains(said, "the 10 B that were announced") || !strings.Contains(said, "nothing was written") {
		t.Errorf("of 11 bytes that were to be 10: %d %s", status, said)
	}
	h.holds("small", 0, make([]byte, size), record.VolumeReady)
}
