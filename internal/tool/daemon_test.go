package tool

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"storaged/internal/confine"
	"storaged/internal/testenv"
)

func startDaemon(t *testing.T, c Command) (*Daemon, error) {
	t.Helper()
	l, err := NewLink(2, "")
	must(t, err)
	d, err := StartDaemon(t.Context(), l, c, Graph{})
	if err == nil {
		t.Cleanup(func() { d.Quit(context.Background()) })
	}
	return d, err
}

// playDaemon has a role be the qemu-storage-daemon of the test.
func playDaemon(t *testing.T, role string) {
	t.Helper()
	real := StorageDaemon
	StorageDaemon = play(t, role)
	t.Cleanup(func() { StorageDaemon = real })
}

func TestDaemonAnswersAndEnds(t *testing.T) {
	testenv.Tool(t, StorageDaemon.Name)
	f, err := os.CreateTemp(t.TempDir(), "")
	must(t, err)
	defer f.Close()
	must(t, f.Truncate(1<<20))
	d, err := startDaemon(t, Command{Files: []*os.File{f}, Policy: confine.Policy{Write: []*os.File{f}}, Limits: Limits{CPU: 10 * time.Second, AddressSpace: 1 << 30}})
	must(t, err)
	must(t, d.LiftCPU())
	must(t, d.Do(t.Context(), "blockdev-add", map[string]any{"driver": "file", "filename": "/proc/self/fd/3", "node-name": "f", "locking": "off"}))
	create := map[string]any{"job-id": "j", "options": map[string]any{"driver": "qcow2", "file": "f", "size": 1 << 30}}
	must(t, d.Job(t.Context(), "j", "blockdev-create", create))
	create["options"].(map[string]any)["size"] = -512
	if _, refused := errors.AsType[*CommandError](d.Job(t.Context(), "j", "blockdev-create", create)); !refused {
		t.Error("a negative size is taken")
	}
	create["options"].(map[string]any)["size"] = int64(1) << 62
	if err := d.Job(t.Context(), "j", "blockdev-create", create); err == nil {
		t.Error("a job that fails is no error")
	}
	must(t, d.Quit(t.Context()))
	must(t, d.Quit(t.Context()))
	if err := d.Do(t.Context(), "query-jobs", nil); err == nil || !strings.Contains(err.Error(), "has ended") {
		t.Errorf("after its end: %v", err)
	}
}

// While it opens its graph it accepts nobody: it would drop a client that does not
// negotiate within ten seconds.
func TestADaemonAcceptsNobodyBeforeItsGraphIsOpen(t *testing.T) {
	testenv.Tool(t, StorageDaemon.Name)
	path := filepath.Join(t.TempDir(), "fifo")
	must(t, unix.Mkfifo(path, 0o600))
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	must(t, err)
	waits := os.NewFile(uintptr(fd), path)
	defer waits.Close()
	l, err := NewLink(2, "")
	must(t, err)
	listener, err := unix.FcntlInt(l.listener.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(listener)
	node := map[string]any{"driver": "file", "node-name": "n", "filename": "/proc/self/fd/3", "read-only": true}
	failed := make(chan error)
	go func() {
		_, err := StartDaemon(t.Context(), l, Command{Files: []*os.File{waits}, Policy: confine.Policy{Read: []*os.File{waits}}},
			Graph{Nodes: []any{node}, Exports: []any{map[string]string{"type": "nbd", "id": "e", "node-name": "n"}}})
		failed <- err
	}()
	defer opened(t, path, failed).Close()
	for range 2 {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}}, 0)
		if n != 1 || err != nil {
			t.Fatalf("a connection waits no longer: %v", err)
		}
		one, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		must(t, err)
		defer unix.Close(one)
	}
	if refused, ok := errors.AsType[*CommandError](<-failed); !ok || refused.Desc != "'file' driver requires '/proc/self/fd/3' to be a regular file" {
		t.Errorf("%v", refused)
	}
}

// opened opens a FIFO for writing when another opens it for reading, or fails with that.
func opened(t *testing.T, fifo string, failed <-chan error) (writer *os.File) {
	t.Helper()
	there := make(chan error)
	go func() {
		var err error
		writer, err = os.OpenFile(fifo, os.O_WRONLY, 0) // waits until it is there
		there <- err
	}()
	select {
	case err := <-there:
		must(t, err)
	case err := <-failed:
		reader, _ := os.OpenFile(fifo, os.O_RDWR, 0) // so that it waits no longer
		<-there
		t.Fatal(reader.Close(), writer.Close(), err)
	}
	return writer
}

// The directory of sockets is where it is said to be, by however long a name.
func TestALinkLeavesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 30))
	must(t, os.Mkdir(dir, 0o700))
	t.Setenv("TMPDIR", "/nonexistent")
	l, err := NewLink(2, dir)
	must(t, err)
	defer l.Close()
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("%v are left, %v", left, err)
	}
	if len(l.Conns) != 2 {
		t.Errorf("%d connections", len(l.Conns))
	}
}

func TestADaemonThatIsKilledSaysSo(t *testing.T) {
	testenv.Tool(t, StorageDaemon.Name)
	d, err := startDaemon(t, Command{})
	must(t, err)
	must(t, d.cmd.Process.Kill())
	if err := d.Do(t.Context(), "query-jobs", nil); err == nil || !strings.Contains(err.Error(), "was killed") {
		t.Errorf("%v", err)
	}
	if err := d.Quit(t.Context()); err == nil || !strings.Contains(err.Error(), "was killed") {
		t.Errorf("at the end: %v", err)
	}
}

func TestHostileAnswersAreErrors(t *testing.T) {
	for role, want := range map[string]string{
		"noise":   "more than 262144 bytes at once",
		"garbage": "is no QMP",
		"deep":    "is no QMP",
		"said":    "exit 3",
	} {
		playDaemon(t, role)
		if _, err := startDaemon(t, Command{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", role, err, want)
		}
	}
	for role, want := range map[string]string{
		"mistyped": "cannot unmarshal",
		"refuses":  `no\x1b[1m`,
		"dies":     "failed (exit 1): bad luck",
	} {
		playDaemon(t, role)
		d, err := startDaemon(t, Command{})
		must(t, err)
		if err := d.Job(t.Context(), "j", "x", nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", role, err, want)
		}
		d.Kill()
	}
}

func TestSilenceAndNoiseWithoutEndEndWithTheContext(t *testing.T) {
	for _, role := range []string{"mute", "endless"} {
		playDaemon(t, role)
		l, err := NewLink(1, "")
		must(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := StartDaemon(ctx, l, Command{}, Graph{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", role, err)
		}
	}
}

// The answer to a question may be older than the event before it, and no event comes
// after that one.
func TestAnEventBeforeAnOlderAnswerIsNotLost(t *testing.T) {
	playDaemon(t, "late")
	d, err := startDaemon(t, Command{})
	must(t, err)
	defer d.Abandon() // it does not end by itself
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	must(t, d.Job(ctx, "j", "x", nil))
	must(t, d.Unexport(ctx, "e"))
}
