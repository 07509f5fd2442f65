package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"storaged/internal/testenv"
)

// libvirt's driver for QEMU asks the daemon that has taken the place of libvirt's own for
// storage where the volumes of its machines are, and opens them there.
func TestMachinesOfLibvirtFindTheirVolumes(t *testing.T) {
	t.Parallel()
	h, run := takenOver(t)
	h.sparse("disk", mib)
	h.succeed(h.create("disk.qcow2", mib, format("qcow2")))
	machine := filepath.Join(h.dir, "machine.xml")
	h.must(os.WriteFile(machine, []byte(machineXML), 0o600))
	out := testenv.LibvirtQEMU(t, run, "define "+machine, "start --paused m", `qemu-monitor-command m --hmp "info block"`, "destroy m", "undefine m")
	for _, opened := range []string{h.path("disk") + " (raw)", h.path("disk.qcow2") + " (qcow2)"} {
		if !strings.Contains(out, opened) {
			t.Errorf("%s is not opened:\n%s", opened, out)
		}
	}
}

const machineXML = `<domain type='qemu'><name>m</name><memory unit='MiB'>16</memory><os><type arch='x86_64' machine='q35'>hvm</type></os><devices>
<disk type='volume' device='disk'><driver name='qemu' type='raw'/><source pool='pool' volume='disk'/><target dev='vda' bus='virtio'/></disk>
<disk type='volume' device='disk'><driver name='qemu' type='qcow2'/><source pool='pool' volume='disk.qcow2'/><target dev='vdb' bus='virtio'/></disk>
</devices></domain>`
