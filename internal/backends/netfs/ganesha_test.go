package netfs

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"storaged/internal/backends"
	"storaged/internal/record"
	"storaged/internal/testenv"
)

// served has the address of a server of NFS for who runs beside it.
const served = "STORAGED_TEST_NFS"

// beside runs its arguments on a network of its own, on which a server in user space exports
// a directory (ganesha.nfsd). It answers before it has read what it exports, so that it is
// asked until it says that.
const beside = `set -e
ip link set lo up
ip addr add "$STORAGED_TEST_NFS/32" dev lo
mount -t tmpfs none /run
mkdir -p /run/rpcbind /run/ganesha /run/export
truncate -s 32M /run/disk
mkfs.ext4 -q -F /run/disk
mount -o loop /run/disk /run/export
rpcbind -w
cat >/run/conf <<CONF
NFS_CORE_PARAM { Bind_addr = $STORAGED_TEST_NFS; Protocols = 3,4; Enable_NLM = false; Enable_RQUOTA = false; }
EXPORT { Export_Id = 1; Path = /run/export; Pseudo = /export; Access_Type = RW; FSAL { Name = VFS; } }
CONF
ganesha.nfsd -F -f /run/conf -L /run/log -p /run/pid &
until showmount --no-headers --exports "$STORAGED_TEST_NFS" 2>/run/said | grep -q /run/export; do
	[ -d /proc/$! ] || { cat /run/log /run/said; exit 1; }
done
"$@"`

// A server says what it exports, and that it is there; one that is not there is said not to
// answer.
func TestServerSaysWhatItExports(t *testing.T) {
	address := os.Getenv(served)
	if address == "" {
		testenv.Loop(t)
		for _, program := range []string{"unshare", "showmount", "rpcbind", "ganesha.nfsd"} {
			testenv.Tool(t, program)
		}
		c := exec.Command("unshare", "--net", "--mount", "--propagation", "slave", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", beside, "sh", os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.v")
		c.Env = append(os.Environ(), served+"=192.0.2.1")
		out, err := c.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	b := New()
	near := record.Source{Hosts: []string{address}}
	found, err := b.(backends.SourceFinder).FindSources(t.Context(), near)
	want := record.Source{Hosts: []string{address}, Path: "/run/export", Format: "nfs"}
	if err != nil || !slices.ContainsFunc(found, func(s record.Source) bool { return s.SameStorage(want) && s.Format == want.Format }) {
		t.Errorf("%+v, %v", found, err)
	}
	p := backends.Pool{Type: "netfs", Target: "/run/pool", Source: want}
	if err := b.(backends.Readier).Ready(t.Context(), p); err != nil {
		t.Errorf("the server is said not to be ready: %v", err)
	}
	p.Source.Hosts = []string{"127.0.0.1:9"}
	if err := b.(backends.Readier).Ready(t.Context(), p); err == nil || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("where none is: %v", err)
	}
	p.Source.Hosts = append(p.Source.Hosts, address)
	if err := b.(backends.Readier).Ready(t.Context(), p); err != nil {
		t.Errorf("the second of two: %v", err)
	}
	if _, err := b.(backends.SourceFinder).FindSources(t.Context(), record.Source{Hosts: []string{"no-such-host.invalid"}}); err == nil || !strings.Contains(err.Error(), "no-such-host.invalid") {
		t.Errorf("of no host: %v", err)
	}
}
