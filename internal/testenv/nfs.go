package testenv

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// serveNFS starts the kernel's server of NFS, and what clients and servers of NFS 3 need
// beside, unless they run; and mounts what is to be exported from two disks of the virtual
// machine.
const serveNFS = `set -e
[ ! -e /srv/nfs1 ] || exit 0
modprobe -a nfsd nfs nfsv3 nfsv4
mount -t nfsd nfsd /proc/fs/nfsd
mkdir -p /run/rpcbind /var/lib/nfs/rpc_pipefs /var/lib/nfs/v4recovery /run/sendsigs.omit.d
mount -t rpc_pipefs rpc_pipefs /var/lib/nfs/rpc_pipefs
modprobe lockd
echo 1 >/proc/sys/fs/nfs/nlm_grace_period # nobody has anything to claim again
echo 10 >/proc/fs/nfsd/nfsv4gracetime
rpcbind -w
rpc.statd --no-notify
: >/etc/exports
rpc.mountd
rpc.nfsd 4
for disk in 1 2; do
    mkfs.xfs -q -f /dev/disk/by-id/virtio-disk$disk
    mkdir /srv/nfs$disk
    mount /dev/disk/by-id/virtio-disk$disk /srv/nfs$disk
done`

// NFS exports a new directory of one of two file systems, 1 or 2, on this host, with
// options of exports(5) beside those that let anybody read and write, until the end of the
// test. It needs the virtual machine.
func NFS(t testing.TB, disk int, options ...string) (path string) {
	t.Helper()
	VM(t)
	if out, err := exec.Command("sh", "-c", serveNFS).CombinedOutput(); err != nil {
		t.Fatalf("the server of NFS: %v\n%s", err, out)
	}
	path, err := os.MkdirTemp(fmt.Sprintf("/srv/nfs%d", disk), "export")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o755); err != nil {
		t.Fatal(err)
	}
	all := append([]string{"rw", "insecure", "no_subtree_check", "no_root_squash"}, options...)
	run(t, "exportfs", "-o", strings.Join(all, ","), "*:"+path)
	t.Cleanup(func() { run(t, "exportfs", "-u", "*:"+path) })
	return path
}

// AwayNFS has the server of NFS of this host, and all else on its own network, be away
// until back is called, or the test ends.
func AwayNFS(t testing.TB) (back func()) {
	t.Helper()
	VM(t)
	run(t, "ip", "link", "set", "lo", "down")
	back = func() { run(t, "ip", "link", "set", "lo", "up") }
	t.Cleanup(back)
	return back
}
