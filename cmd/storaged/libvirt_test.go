package main_test

import (
	"os"
	"path/filepath"
	"strings"
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
