package helper

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"storaged/internal/diskio"
	"storaged/internal/record"
	"storaged/internal/testenv"
)

// unsynced is a file that is opened, whose header is read, and that cannot be made
// durable then, again and again.
type unsynced struct {
	stored
	asked *int
}

func (s unsynced) Content() diskio.Content {
	if *s.asked++; *s.asked%3 != 0 {
		return s.stored.Content()
	}
	return noFlush{s.stored.Content()}
}

type noFlush struct{ diskio.Content }

func (noFlush) Flush() error { return syscall.EIO }

// withSecrets gives a run secrets by their names.
func withSecrets(t *testing.T, r *Run, values map[string]string) {
	t.Helper()
	files := map[string]string{}
	for name, value := range values {
		files[name] = filepath.Join(t.TempDir(), name)
		must(t, os.WriteFile(files[name], []byte(value), 0o600))
	}
	must(t, r.openSecrets(files))
	t.Cleanup(r.dropSecrets)
}

// A key that is added and cannot be made durable is taken back; that it cannot be made
// durable either that it is gone is said.
func TestAKeyThatIsNotDurableIsTakenBack(t *testing.T) {
	r, ctx := testRun(t)
	dir := t.TempDir()
	testenv.LUKS(t, filepath.Join(dir, "v"), "open, sesame")
	withSecrets(t, r, map[string]string{"first": "open, sesame", "second": "another"})
	v := storedFile(t, dir, "v")
	d := Disk{Format: "luks", Secret: "first"}
	if err := r.AddKey(ctx, unsynced{v, new(int)}, d, "second", 1); !errors.Is(err, syscall.EIO) {
		t.Errorf("%v", err)
	}
	if err := r.TryKey(ctx, v, Disk{Format: "luks", Secret: "second"}); record.CodeOf(err) != record.Denied {
		t.Errorf("the second opens it: %v", err)
	}
	if got := strings.Join(r.Report.Warnings, ""); r.Report.Rollback != string(record.RollbackFailed) || !strings.Contains(got, `"second" may open the volume too`) || !strings.Contains(got, "rekey --remove second") {
		t.Errorf("%s, %q", r.Report.Rollback, got)
	}
	must(t, r.TryKey(ctx, v, d))
}

// What completes is not canceled, but does not outlive a cancel for long.
func TestWhatCompletesEndsSometimeAfterACancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, ctx := testRun(t)
		late, done := r.Completing(ctx)
		<-time.After(time.Hour)
		r.control.cancel(cancelCause{})
		at := time.Now()
		if ctx.Err() == nil || late.Err() != nil {
			t.Errorf("%v, %v", ctx.Err(), late.Err())
		}
		<-late.Done()
		if time.Since(at) != completingTime {
			t.Errorf("it ended after %v", time.Since(at))
		}
		done()
		once, done := r.Completing(ctx)
		done()
		if once.Err() == nil {
			t.Error("it goes on")
		}
	})
}

// The names of sockets are where they are collected with the job.
func TestSocketsAreMadeInTheDirectoryOfTheJob(t *testing.T) {
	r, _ := testRun(t)
	r.private = t.TempDir()
	t.Setenv("TMPDIR", "/nonexistent")
	must(t, r.prepareLinks(2))
	r.dropLinks()
	if err := os.Remove(r.private); err != nil {
		t.Errorf("something is left: %v", err)
	}
}
