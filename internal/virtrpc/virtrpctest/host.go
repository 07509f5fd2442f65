package virtrpctest

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/hashicorp/go-hclog"

	"storaged/internal/peer"
	"storaged/internal/polkit"
	"storaged/internal/service"
	"storaged/internal/store"
	"storaged/internal/testenv"
	"storaged/internal/virtrpc"
)

// Host is a server for libvirt's clients with a real service behind it: a supervisor,
// helpers and directories of its own.
type Host struct {
	Service  *service.Service
	Dir      string // for pools
	Socket   string
	SocketRO string
	t        testing.TB
}

// built is where helper was built, "" before.
var built string

// helper is built once for all tests of a package, unless it is built already.
var helper = sync.OnceValues(func() (string, error) {
	if dir := testenv.Programs(); dir != "" {
		return filepath.Join(dir, "storage-helper"), nil
	}
	dir, err := os.MkdirTemp("", "storaged-helper-")
	if err != nil {
		return "", err
	}
	built = dir
	path := filepath.Join(dir, "storage-helper")
	out, err := exec.Command("go", "build", "-o", path, "storaged/cmd/storage-helper").CombinedOutput()
	if err != nil {
		return string(out), err
	}
	return path, nil
})

// RemoveHelper removes what hosts were run with. TestMain calls it at the end.
func RemoveHelper() {
	if built != "" {
		os.RemoveAll(built)
	}
}

// NewHost begins to answer, until the end of the test.
func NewHost(t testing.TB) *Host {
	t.Helper()
	program, err := helper()
	if err != nil {
		t.Fatalf("%v\n%s", err, program)
	}
	dir := t.TempDir()
	h := &Host{t: t, Dir: dir, Socket: filepath.Join(dir, "s"), SocketRO: filepath.Join(dir, "r")}
	c := service.DefaultSettings()
	c.Version, c.Helper, c.StateDir, c.RuntimeDir = "test", program, filepath.Join(dir, "state"), filepath.Join(dir, "run")
	for _, d := range []string{c.StateDir, c.RuntimeDir} {
		if err := os.MkdirAll(filepath.Join(d, "jobs"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	st, _, err := store.OpenOrRestore(filepath.Join(c.StateDir, "storaged.db"))
	if err != nil {
		t.Fatal(err)
	}
	log := hclog.NewNullLogger()
	if h.Service, err = service.New(service.Setup{Settings: c, Log: log, Notes: log, Lost: func() int64 { return 0 }}, st); err != nil {
		t.Fatal(err)
	}
	if err := h.Service.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	stop := h.serve(virtrpc.NewServer(h.Service, virtrpc.Config{Log: log, URI: "storage:///system", Connections: new(peer.Connections)}))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), Patience)
		defer cancel()
		h.Service.CloseEvents()
		stop(ctx)
		if err := h.Service.Stop(ctx); err != nil {
			t.Error(err)
		}
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// Ask answers on two more sockets, to which everybody may connect, and has polkit asked
// about all but root.
func (h *Host) Ask(a *polkit.Authority) (socket, readOnly string) {
	h.t.Helper()
	dir := testenv.Shared(h.t)
	more := &Host{t: h.t, Socket: filepath.Join(dir, "s"), SocketRO: filepath.Join(dir, "r")}
	stop := more.serve(virtrpc.NewServer(h.Service, virtrpc.Config{
		Log: hclog.NewNullLogger(), URI: "storage:///system", Connections: new(peer.Connections), Group: new(-1), Authority: a,
	}))
	h.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), Patience)
		defer cancel()
		stop(ctx)
		a.Close()
	})
	for _, path := range []string{more.Socket, more.SocketRO} {
		if err := os.Chmod(path, 0o666); err != nil {
			h.t.Fatal(err)
		}
	}
	return more.Socket, more.SocketRO
}

// serve answers on both sockets until stop.
func (h *Host) serve(s *virtrpc.Server) (stop func(context.Context)) {
	h.t.Helper()
	var served sync.WaitGroup
	for path, readOnly := range map[string]bool{h.Socket: false, h.SocketRO: true} {
		l, err := net.Listen("unix", path)
		if err != nil {
			h.t.Fatal(err)
		}
		served.Go(func() {
			if err := s.Serve(l, readOnly); err != nil {
				h.t.Errorf("Serve: %v", err)
			}
		})
	}
	return func(ctx context.Context) {
		if err := s.Shutdown(ctx); err != nil {
			h.t.Errorf("Shutdown: %v", err)
		}
		served.Wait()
	}
}

// URI is how libvirt's clients find the host.
func (h *Host) URI() string { return URI(h.Socket) }

// URI is how libvirt's clients find a daemon by its socket.
func URI(socket string) string { return "storage:///system?socket=" + socket }

// Virsh runs a command of libvirt's own client with a daemon, and gives what it writes,
// and whether it succeeded.
func Virsh(t testing.TB, uri string, args ...string) (out string, ok bool) {
	t.Helper()
	return VirshAs(t, 0, uri, args...)
}

// VirshAs is Virsh as a user; 0 is the test's own.
func VirshAs(t testing.TB, uid uint32, uri string, args ...string) (out string, ok bool) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), testenv.Tool(t, "virsh"), append([]string{"-c", uri}, args...)...)
	cmd.Env = append(cmd.Environ(), "LC_ALL=C")
	if uid != 0 {
		cmd.Dir = "/"
		cmd.Env = append(cmd.Env, "HOME=/")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	}
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	err := cmd.Run()
	return strings.TrimSpace(said.String()), err == nil
}
