package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"storaged/internal/testenv"
	"storaged/internal/virtrpc/virtrpctest"
)

// The system's daemon answers libvirt's clients on sockets of their own beside its main
// one, until it ends.
func TestDaemonAnswersLibvirtsClients(t *testing.T) {
	t.Parallel()
	testenv.Root(t)
	h := newHost(t)
	h.sparse("disk", mib)
	for socket, mode := range map[string]os.FileMode{"libvirt.sock": 0o660, "libvirt-ro.sock": 0o666} {
		path := filepath.Join(filepath.Dir(h.sock), socket)
		if st, err := os.Stat(path); err != nil || st.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", socket, st, err)
		}
		if out, ok := virtrpctest.Virsh(t, virtrpctest.URI(path), "vol-list", "pool"); !ok || !strings.Contains(out, h.path("disk")) {
			t.Errorf("%s: %s", socket, out)
		}
	}
	h.stop()
	if left, err := filepath.Glob(filepath.Join(h.dir, "libvirt*")); err != nil || len(left) > 0 {
		t.Errorf("of the sockets are left %q, %v", left, err)
	}
	h.start()
}

// The daemon stands where libvirt's clients look for its own, and not beside it.
func TestDaemonTakesThePlaceOfLibvirts(t *testing.T) {
	t.Parallel()
	h, run := takenOver(t)
	h.sparse("disk", mib)
	script := fmt.Sprintf("mount -t tmpfs test /run && mkdir /run/libvirt && mount --bind %s /run/libvirt && virsh -c storage:///system vol-list pool && virsh -r -c storage:///system vol-list pool", run)
	cmd := exec.Command("sh", "-c", script)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if out, err := cmd.CombinedOutput(); err != nil || strings.Count(string(out), h.path("disk")) != 2 {
		t.Errorf("%v\n%s", err, out)
	}
	h.stop()
	if left, err := filepath.Glob(run + "/virtstoraged*"); err != nil || len(left) > 0 {
		t.Errorf("of the sockets are left %q, %v", left, err)
	}
	h.start()
}

// takenOver is newHost with a daemon that has taken the place of libvirt's own for
// storage in a run directory.
func takenOver(t *testing.T) (h *host, run string) {
	t.Helper()
	testenv.Root(t)
	h = unbegun(t)
	run = filepath.Join(h.dir, "libvirt")
	h.config = filepath.Join(h.dir, "config")
	h.must(os.WriteFile(h.config, fmt.Appendf(nil, "[libvirt]\ntakeover = true\nrun_dir = %q\n", run), 0o600))
	h.begin()
	return h, run
}
