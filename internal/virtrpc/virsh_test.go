package virtrpc_test

import (
	"strings"
	"testing"

	"storaged/internal/virtrpc/virtrpctest"
)

// libvirt's own client lists and shows what there is.
func TestVirshLooks(t *testing.T) {
	h := newHost(t, nil)
	for command, want := range map[string]string{
		"uri":                                     h.uri(),
		"pool-list --all":                         "Name     State      Autostart\n--------------------------------\n backup   inactive   no\n images   active     yes",
		"pool-list --all --type netfs":            "Name   State   Autostart\n---------------------------",
		"pool-list --name --inactive":             "backup",
		"pool-list --name --autostart":            "images",
		"pool-uuid images":                        h.svc.pools[0].UUID,
		"pool-name " + h.svc.pools[1].UUID:        "backup",
		"pool-info --bytes images":                "Name:           images\nUUID:           " + h.svc.pools[0].UUID + "\nState:          running\nPersistent:     yes\nAutostart:      yes\nCapacity:       1099511627776\nAllocation:     1073741824\nAvailable:      1098437885952",
		"vol-list images":                         "Name         Path\n--------------------------------------\n base.raw     /srv/images/base.raw\n disk.qcow2   /srv/images/disk.qcow2",
		"vol-info --bytes --pool images base.raw": "Name:           base.raw\nType:           file\nCapacity:       1073741824 bytes\nAllocation:     1048576 bytes",
		"vol-path --pool images base.raw":         "/srv/images/base.raw",
		"vol-key --pool images base.raw":          "/srv/images/base.raw",
		"vol-name /srv/images/base.raw":           "base.raw",
		"vol-pool /srv/images/base.raw":           "images",
	} {
		if got, ok := virtrpctest.Virsh(t, h.uri(), strings.Fields(command)...); !ok || got != want {
			t.Errorf("virsh %s: %v\n%q\nnot\n%q", command, ok, got, want)
		}
	}
	for command, want := range map[string]string{
		"pool-info nowhere":              "error: failed to get pool 'nowhere'",
		"vol-list backup":                "error: Requested operation is not valid: storage pool 'backup' is not active",
		"vol-info --pool images nothing": "error: failed to get vol 'nothing'",
		"list":                           "error: this function is not supported by the connection driver: virConnectNumOfDomains",
		"version":                        "error: this function is not supported by the connection driver: virConnectGetVersion",
		"vol-key --pool backup base.raw": "error: pool 'backup' is not active",
	} {
		if got, ok := virtrpctest.Virsh(t, h.uri(), strings.Fields(command)...); ok || !strings.Contains(got, want) {
			t.Errorf("virsh %s: %v\n%q\nnot\n%q", command, ok, got, want)
		}
	}
}
