package helper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/hashicorp/go-hclog"

	"storaged/internal/backends"
	"storaged/internal/backends/all"
	"storaged/internal/diskio"
	"storaged/internal/ipc"
	"storaged/internal/quantity"
	"storaged/internal/record"
	"storaged/internal/term"
	"storaged/internal/testenv"
)

// blind is a view that nobody looks at. It keeps the activities.
type blind struct {
	mu         sync.Mutex
	activities []ipc.Activity
}

func (*blind) plan(ipc.Plan)             {}
func (*blind) phase(ipc.Phase)           {}
func (*blind) progress(reading)          {}
func (*blind) warn(string)               {}
func (*blind) window(ipc.Window) bool    { return false }
func (*blind) confined(ipc.Confined)     {}
func (*blind) checkpoint(ipc.Checkpoint) {}
func (b *blind) state(a ipc.Activity) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.activities = append(b.activities, a)
}

// testRun is a run in this process.
func testRun(t *testing.T) (*Run, context.Context) {
	t.Helper()
	r, ctx := newRun("0199aaaa-0000-7000-8000-000000000002", noRecords{}, hclog.NewNullLogger())
	r.view, r.confine = &blind{}, func(Task) error { return nil }
	return r, ctx
}

func testPlace(t *testing.T, name string) Location {
	t.Helper()
	backend, err := all.Lookup("dir")
	must(t, err)
	return (&Pool{Pool: backends.Pool{Type: "dir", Target: t.TempDir()}, Backend: backend}).At(name)
}

func TestPanicBecomesAReportAndLeavesNothing(t *testing.T) {
	r, ctx := testRun(t)
	at := testPlace(t, "a.raw")
	report := r.do(ctx, Task{Doing: "try", Work: func(ctx context.Context, r *Run) error {
		r.Plan(Moving("copy", 1), Commit())
		r.Next(0)
		return r.Create(ctx, &Draft{Location: at}, func() error { panic("oh dear") })
	}})
	if report.Outcome != ipc.Failed || report.Error.Code != string(record.Internal) || !strings.Contains(report.Error.Message, "oh dear") {
		t.Errorf("report %+v, error %+v", report.Summary, report.Error)
	}
	if report.Rollback != string(record.RollbackDone) {
		t.Errorf("rollback %q", report.Rollback)
	}
	onlyHas(t, at.Pool.Target)
}

// Run with -race: checkpoints are made while a task goes on, and both warn.
func TestNoWarningIsLost(t *testing.T) {
	r, ctx := testRun(t)
	report := r.do(ctx, Task{Doing: "try", Work: func(_ context.Context, r *Run) error {
		var several sync.WaitGroup
		for range 8 {
			several.Go(func() { r.Warn("careful") })
		}
		several.Wait()
		return nil
	}})
	if len(report.Warnings) != 8 {
		t.Errorf("warnings %q", report.Warnings)
	}
}

func TestCommitThatCannotBeRecordedLeavesNothing(t *testing.T) {
	r, ctx := testRun(t)
	r.Records = fullDisk{}
	at := testPlace(t, "a.raw")
	report := r.do(ctx, Task{Doing: "try", Work: func(ctx context.Context, r *Run) error {
		r.Plan(Moving("allocate", 0), Commit())
		r.Next(0)
		d := &Draft{Location: at, As: backends.NewVolume{Size: mib}}
		return r.Create(ctx, d, func() error { return diskio.FileOf(d.Draft.Content()).Truncate(mib) })
	}})
	if report.Outcome != ipc.Failed || report.Error.Code != string(record.NoSpace) || report.Rollback != string(record.RollbackDone) {
		t.Errorf("report %+v, error %+v", report.Summary, report.Error)
	}
	onlyHas(t, at.Pool.Target)
}

// fullDisk has no room for a commit record.
type fullDisk struct{ noRecords }

func (fullDisk) Save([]byte) error { return syscall.ENOSPC }

func TestCancelIsTooLateBehindThePointOfNoReturn(t *testing.T) {
	r, ctx := testRun(t)
	at := testPlace(t, "a.raw")
	r.Records = recorder{does: func() {
		if s, _ := r.control.cancel(cancelCause{}); s != sealed {
			t.Errorf("stage %v", s)
		}
	}}
	report := r.do(ctx, Task{Doing: "try", Work: func(ctx context.Context, r *Run) error {
		r.Plan(Moving("allocate", 0), Commit())
		r.Next(0)
		d := &Draft{Location: at, As: backends.NewVolume{Size: mib}}
		return r.Create(ctx, d, func() error { return diskio.FileOf(d.Draft.Content()).Truncate(mib) })
	}})
	if report.Outcome != ipc.Succeeded {
		t.Errorf("report %+v, error %+v", report.Summary, report.Error)
	}
	onlyHas(t, at.Pool.Target, "a.raw")
}

// recorder does something while the commit record is saved.
type recorder struct {
	noRecords
	does func()
}

func (r recorder) Save([]byte) error { r.does(); return nil }

func TestSecondSignalByHandLeavesAtOnce(t *testing.T) {
	r, ctx := testRun(t)
	signals := make(chan os.Signal)
	out := term.Output{W: io.Discard, Width: func() int { return 80 }, Now: term.NewOutput(os.Stderr).Now}
	h := &manualMode{display: term.NewDisplay(out), task: Task{Makes: "/pool/a.raw"}}
	h.run, h.mode, h.signals, r.view = r, h, signals, h
	undone := make(chan struct{}) // the undoing lasts until the test is over
	defer close(undone)
	left, begun := make(chan *ipc.Report), make(chan struct{})
	go func() {
		left <- h.conduct(ctx, Task{Doing: "try", Work: func(ctx context.Context, _ *Run) error {
			close(begun)
			<-ctx.Done()
			<-undone
			return context.Cause(ctx)
		}})
	}()
	<-begun
	signals <- syscall.SIGINT
	signals <- syscall.SIGUSR1
	select {
	case <-left:
		t.Fatal("left at the first signal")
	case signals <- syscall.SIGTERM:
	}
	if report := <-left; report != nil {
		t.Errorf("report %+v", report.Summary)
	}
	err := h.abandoned()
	if e, ok := errors.AsType[*record.Error](err); !ok || e.Code != record.CanceledCode || !strings.Contains(e.Hint.String(), "settle --target /pool/a.raw --job "+r.ID) {
		t.Errorf("error %+v", err)
	}
}

func TestFaultsHaveTheirCodes(t *testing.T) {
	at := Task{Doing: `clone "/p/a" to "/p/b"`, Reads: "/p/a", Writes: "/p/b"}
	for name, c := range map[string]struct {
		err    error
		code   record.Code
		path   string
		offset int64
	}{
		"not found":    {fmt.Errorf("volume: %w", backends.ErrNotFound), record.NotFound, "", -1},
		"exists":       {fmt.Errorf("volume %w", backends.ErrExists), record.Exists, "", -1},
		"unsafe":       {fmt.Errorf("volume %w: a link", backends.ErrUnsafe), record.WrongState, "", -1},
		"busy":         {fmt.Errorf("so: %w", &backends.BusyError{Object: "/p/b", Holder: "pid 812 (qemu)"}), record.Busy, "/p/b", -1},
		"write fails":  {&diskio.IOError{Op: "write", Offset: 4096, Err: syscall.EIO}, record.IO, "/p/b", 4096},
		"read fails":   {&diskio.IOError{Op: "read", Offset: 512, Err: syscall.EIO}, record.IO, "/p/a", 512},
		"no space":     {&diskio.IOError{Op: "allocate", Offset: 0, Err: syscall.ENOSPC}, record.NoSpace, "/p/b", 0},
		"fsync":        {&diskio.IOError{Op: "fsync", Offset: -1, Err: syscall.EIO}, record.IO, "/p/b", -1},
		"quota":        {&os.PathError{Op: "open", Path: "/p", Err: syscall.EDQUOT}, record.NoSpace, "", -1},
		"denied":       {&os.PathError{Op: "open", Path: "/p", Err: syscall.EACCES}, record.Denied, "", -1},
		"read-only":    {syscall.EROFS, record.Denied, "", -1},
		"no reflink":   {&diskio.IOError{Op: "reflink", Offset: -1, Err: syscall.EOPNOTSUPP}, record.Unsupported, "/p/b", -1},
		"two systems":  {&diskio.IOError{Op: "reflink", Offset: 0, Err: syscall.EXDEV}, record.Unsupported, "/p/b", 0},
		"mismatch":     {&diskio.IOError{Op: "verify", Offset: 9, Err: diskio.ErrMismatch}, record.Mismatch, "/p/b", 9},
		"anything":     {errors.New("the moon is full"), record.FailedCode, "", -1},
		"told already": {ipc.Errorf(record.Mismatch, "differs"), record.Mismatch, "", -1},
	} {
		t.Run(name, func(t *testing.T) {
			e := Fault(c.err, at)
			if e.Code != string(c.code) || e.Path != c.path || e.Offset != c.offset {
				t.Errorf("got %+v, want %s %q %d", e, c.code, c.path, c.offset)
			}
			if name != "told already" && !strings.HasPrefix(e.Message, `cannot clone "/p/a" to "/p/b": `) {
				t.Errorf("message %q", e.Message)
			}
			if shares := c.code == record.Unsupported; shares != strings.Contains(e.Hint, "--reflink auto copies") {
				t.Errorf("hint %q", e.Hint)
			}
		})
	}
}

// What is too large for a file system is refused with what that takes.
func TestTooLargeNamesTheBound(t *testing.T) {
	path := filepath.Join(testenv.Mount(t, "ext4"), "file")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	err = bounded(&diskio.IOError{Op: "resize", Offset: -1, Err: syscall.EFBIG}, diskio.FileContent(f))
	known, ok := errors.AsType[*fileSizeError](err)
	if !ok {
		t.Fatalf("%v", err)
	}
	most := known.most
	if err, larger := f.Truncate(most), f.Truncate(most+1); err != nil || !errors.Is(larger, syscall.EFBIG) {
		t.Errorf("%d bytes: %v, one more: %v", most, err, larger)
	}
	e := Fault(err, Task{Doing: "allocate it", Writes: path})
	if want := quantity.FormatBoth(most) + " at most"; e.Code != string(record.TooLarge) || !strings.HasSuffix(e.Message, want) {
		t.Errorf("%s: %q, not %q", e.Code, e.Message, want)
	}
}

// A job that is confined names it too.
func TestJobThatMakesTooLargeAFileNamesTheBound(t *testing.T) {
	d := newDaemon(t)
	dir := testenv.Mount(t, "ext4")
	d.start("allocate", "--target", filepath.Join(dir, "a.raw"), "--capacity", "8191P", "--allocation", "0")
	d.begin(ipc.Go{})
	if report := d.result(record.ExitCode(record.Errorf(record.TooLarge, "x"))); report.Error == nil || !strings.HasSuffix(report.Error.Message, "at most") {
		t.Errorf("report %+v, error %+v", report.Summary, report.Error)
	}
}

func TestBusyNamesTheHolder(t *testing.T) {
	e := Fault(&backends.BusyError{Object: "/p/b", Holder: "pid 812 (qemu)"}, Task{Doing: "wipe"})
	if e.Holder != "pid 812 (qemu)" || !strings.Contains(e.Message, "pid 812") {
		t.Errorf("got %+v", e)
	}
	if !strings.Contains(e.Hint, "stop that process") {
		t.Errorf("hint %q", e.Hint)
	}
	if e := Fault(&backends.BusyError{Object: "/p/b"}, Task{Doing: "wipe"}); !strings.Contains(e.Hint, "another host") {
		t.Errorf("hint %q", e.Hint)
	}
	if e := Fault(&backends.BusyError{Object: "/p/b", Release: "losetup --detach /dev/loop1"}, Task{Doing: "wipe"}); !strings.HasPrefix(e.Hint, "losetup") {
		t.Errorf("hint %q", e.Hint)
	}
}

// The object that is the only one of the work is not named twice.
func TestFaultNamesItsObjectOnce(t *testing.T) {
	busy := &backends.BusyError{Object: "/p/b", Holder: "loop device /dev/loop0"}
	for doing, want := range map[string]string{
		`delete "/p/b"`:          `cannot delete "/p/b": it is in use by loop device /dev/loop0`,
		`clone "/p/a" to "/p/b"`: `cannot clone "/p/a" to "/p/b": "/p/b" is in use by loop device /dev/loop0`,
		`delete "/p/a"`:          `cannot delete "/p/a": "/p/b" is in use by loop device /dev/loop0`,
		`write standard output`:  `cannot write standard output: "/p/b" is in use by loop device /dev/loop0`,
	} {
		if e := Fault(busy, Task{Doing: doing}); e.Message != want {
			t.Errorf("%q, not %q", e.Message, want)
		}
	}
}

func TestLogIsBounded(t *testing.T) {
	var out strings.Builder
	w := &boundedWriter{out: &out, rest: 10}
	for _, line := range []string{"one\n", "two\n", "three\n", "4\n"} {
		if n, err := io.WriteString(w, line); n != len(line) || err != nil {
			t.Errorf("write gave %d, %v", n, err)
		}
	}
	if out.String() != "one\ntwo\nlog truncated\n" {
		t.Errorf("log %q", out.String())
	}
}
