package daemon

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/go-hclog"

	"storaged/internal/service"
	"storaged/internal/store"
)

// manager is the service manager's end of its socket.
type manager struct{ conn *net.UnixConn }

func newManager(t *testing.T) manager {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return manager{conn}
}

// until reads until something is said, and gives what was said before.
func (m manager) until(t *testing.T, what string) (before []string) {
	t.Helper()
	buf := make([]byte, 4096)
	for {
		n, err := m.conn.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		if said := string(buf[:n]); said != what {
			before = append(before, said)
			continue
		}
		return before
	}
}

// The watchdog is fed only as long as the store's writer answers.
func TestPulseStopsWithTheWriter(t *testing.T) {
	m := newManager(t)
	t.Setenv("WATCHDOG_USEC", "30000")
	t.Setenv("WATCHDOG_PID", "")
	dir := t.TempDir()
	st, err := store.Open(filepath.Join(dir, "db"))
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	quiet := hclog.NewNullLogger()
	s, err := service.New(service.Setup{Settings: service.Settings{StateDir: dir, RuntimeDir: dir}, Log: quiet, Notes: quiet}, st)
	if err != nil {
		t.Fatal(err)
	}
	l := &life{Setup: Setup{Log: quiet, Notes: quiet}, service: s}
	busy, free := make(chan struct{}), make(chan struct{})
	var doers sync.WaitGroup
	doers.Go(func() {
		_ = st.Update(func(*store.Tx) error { close(busy); <-free; return errors.New("nothing to write") })
	})
	<-busy
	ctx, stop := context.WithCancel(t.Context())
	doers.Go(func() { l.pulse(ctx) })
	for !hangsIn("Answer") {
		runtime.Gosched()
	}
	l.notify("the writer hangs")
	if said := m.until(t, "the writer hangs"); len(said) > 0 {
		t.Errorf("with a writer that hangs it says %q", said)
	}
	close(free)
	m.until(t, "WATCHDOG=1")
	stop()
	doers.Wait()
}

// hangsIn reports whether a goroutine is in the function.
func hangsIn(function string) bool {
	stacks := make([]byte, 1<<20)
	return strings.Contains(string(stacks[:runtime.Stack(stacks, true)]), function+"(")
}
