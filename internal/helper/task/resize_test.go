package task

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"storaged/internal/backends"
	"storaged/internal/diskio"
	"storaged/internal/helper"
	"storaged/internal/operation"
	"storaged/internal/record"
)

// alone runs the test in a process of its own, which a run confines, and reports
// whether this is that.
func alone(t *testing.T) bool {
	t.Helper()
	const mark = "STORAGED_TEST_ALONE"
	if os.Getenv(mark) != "" {
		return true
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), mark+"=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	return false
}

func TestResizeThatIsCanceledGivesTheSizeBack(t *testing.T) {
	if !alone(t) {
		return
	}
	path := filepath.Join(t.TempDir(), "a.raw")
	content := strings.Repeat("content ", 1<<17)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	at, err := locate(operation.Volume{Path: path, Type: "dir"})
	if err != nil {
		t.Fatal(err)
	}
	grown := int64(64 << 20)
	w := resize{view{at: &helper.Volume{Location: at}}, diskio.ResizeSpec{Capacity: grown, Allocate: true}}
	err = helper.RunManually(helper.Task{Doing: "try", Undone: "it has its size", Pools: true, Work: func(ctx context.Context, r *helper.Run) error {
		v, err := at.Pool.Backend.Open(ctx, at.Pool.Pool, at.Name, backends.WriteExclusive)
		if err != nil {
			return err
		}
		defer v.Close()
		err = errors.Join(diskio.FileOf(v.Content()).Truncate(grown), // as far as it may have come
			syscall.Kill(os.Getpid(), syscall.SIGTERM),
			r.Pacer.Pause(context.Background())) // also a paused run is undone
		if err != nil {
			return err
		}
		<-ctx.Done()
		return w.undo(r, v.(backends.Resizer), int64(len(content)), context.Cause(ctx))
	}}, helper.ManualOptions{})
	if e, ok := errors.AsType[*record.Error](err); !ok || e.Code != record.CanceledCode || !strings.Contains(e.Message, "; it has its size") {
		t.Errorf("error %v", err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != content {
		t.Errorf("it has %d bytes, %v", len(got), err)
	}
}
