package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"storaged/internal/record"
	"storaged/internal/testenv"
)

// traced makes helpers run under strace, which gives the system calls of one
// kind on one file an error. The helper stays the daemon's child.
func (h *host) traced(file string, inject ...string) {
	h.t.Helper()
	strace := testenv.Tool(h.t, "strace")
	h.stop()
	wrapper := filepath.Join(h.dir, "helper")
	args := []string{strace, "-D", "-f", "-qq", "-o", filepath.Join(h.dir, "trace"), "-P", file}
	for _, i := range inject {
		args = append(args, "-e", "inject="+i)
	}
	script := "#!/bin/sh\nexec '" + strings.Join(args, "' '") + "' '" + filepath.Join(bin, "storage-helper") + "' \"$@\"\n"
	h.must(os.WriteFile(wrapper, []byte(script), 0o755))
	h.env = []string{"STORAGED_HELPER=" + wrapper}
	h.start()
}

// trace is what was traced.
func (h *host) trace() string {
	b := must(os.ReadFile(filepath.Join(h.dir, "trace")))(h.t)
	return string(b)
}

// failedAt fails unless the job failed with that code at a place in a file.
func (h *host) failedAt(j record.Job, code record.Code, path string, offset bool) {
	h.t.Helper()
	e := j.Error
	if j.State != record.Failed || e == nil || e.Code != code || e.Path != path || offset && (e.Offset == nil || *e.Offset < 0) {
		h.t.Errorf("the job is %s, %v; want %s of %s", j.State, e, code, path)
	}
}

// A disk that gets full in the middle ends the job; nothing of the target is
// left, and the source is as it was.
func TestDiskGetsFullInTheMiddle(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"tmpfs", "ext4", "xfs"} {
		t.Run(kind, func(t *testing.T) {
			h := newHost(t)
			want := h.random("base", 48*mib)
			dir := testenv.Mount(t, kind)
			h.define("small", dir)
			st := h.began(h.clone("base", "small/copy", limited(8*mib)))
			h.written(st.Job.ID, 1)
			fillUp(t, dir)
			h.failedAt(h.end(st, nil), record.NoSpace, filepath.Join(dir, "copy"), true)
			h.gone("small", dir, "copy")
			h.hasHash("base", want)
		})
	}
}

// gone fails when a pool has anything of a volume.
func (h *host) gone(pool, dir, name string) {
	h.t.Helper()
	left, err := filepath.Glob(filepath.Join(dir, "*"+name+"*"))
	drafts, err2 := filepath.Glob(filepath.Join(dir, ".*.storaged"))
	if err != nil || err2 != nil || len(left)+len(drafts) > 0 {
		h.t.Errorf("left behind: %v %v", left, drafts)
	}
	h.unknown(pool + "/" + name)
}

func TestReadErrorInTheSource(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	want := h.random("base", 48*mib)
	h.traced(h.path("base"), "pread64:error=EIO:when=3+") // strace counts by thread, of which there are a few
	j := h.end(h.clone("base", "copy", noReflink))
	h.failedAt(j, record.IO, h.path("base"), true)
	if j.Error != nil && !strings.Contains(j.Error.Message, "read at byte") {
		t.Errorf("error is %q", j.Error.Message)
	}
	h.absent("copy")
	h.hasHash("base", want)
	j = h.end(h.verify("base"))
	h.failedAt(j, record.IO, h.path("base"), true)
	if j.Result != nil {
		t.Errorf("a checksum of what cannot be read: %s", shown(j.Result))
	}
}

// The storage takes all bytes and says only when it is to make them durable
// that it cannot.
func TestLateErrorOfTheStorage(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	want := h.random("base", 48*mib)
	dir := testenv.Failing(t)
	h.define("failing", dir)
	j := h.end(h.clone("base", "failing/copy"))
	if j.Code() != record.IO && j.Code() != record.NoSpace {
		t.Errorf("error is %s", outcome(j))
	}
	h.failedAt(j, j.Code(), filepath.Join(dir, "copy"), false)
	h.gone("failing", dir, "copy")
	h.hasHash("base", want)
}

// The first error of an fsync is the job's, though the next one would succeed.
func TestFirstFailedSyncIsFinal(t *testing.T) {
	t.Parallel()
	for _, call := range []string{"fsync", "sync_file_range"} {
		t.Run(call, func(t *testing.T) {
			h := newHost(t)
			h.random("old", 24*mib)
			h.traced(h.path("old"), call+":error=EIO:when=1")
			j := h.end(h.wipe("old", algorithm("bsi")))
			h.failedAt(j, record.IO, h.path("old"), call == "sync_file_range")
			_, after, failed := strings.Cut(h.trace(), "(INJECTED)")
			if !failed || strings.Contains(after, "fsync(") || strings.Contains(after, "fdatasync(") {
				t.Errorf("synced again after the error (%v):\n%s", failed, after)
			}
			h.is("old", record.Volume{State: record.VolumeIncomplete, Job: &j.Number})
			if j.Rollback != record.RollbackKept || j.Result != nil && j.Result.Verified != nil && *j.Result.Verified {
				t.Errorf("rollback %s, result %s", j.Rollback, shown(j.Result))
			}
		})
	}
}
