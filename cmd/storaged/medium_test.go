package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/testenv"
)

// badDisk loads a disk of the kernel's in memory, of 64 MiB, that cannot read some sectors
// from a place on, and gives its node.
func (h *host) badDisk(at int64) (device string) {
	h.t.Helper()
	modprobe := func(args ...string) {
		if out, err := exec.Command("modprobe", args...).CombinedOutput(); err != nil {
			h.t.Fatalf("modprobe %q: %v\n%s", args, err, out)
		}
	}
	const mediumErrors = 2
	modprobe("sd_mod")
	modprobe("scsi_debug", "dev_size_mb=64", fmt.Sprint("opts=", mediumErrors), fmt.Sprint("medium_error_start=", at/512), "medium_error_count=8")
	h.t.Cleanup(func() {
		h.await("the end of the disk", func() bool { return exec.Command("modprobe", "-r", "scsi_debug").Run() == nil })
	})
	h.await("the disk", func() bool {
		nodes, _ := filepath.Glob("/sys/bus/pseudo/drivers/scsi_debug/adapter*/host*/target*/*:*/block/*")
		for _, node := range nodes {
			device = filepath.Join("/dev", filepath.Base(node))
		}
		_, err := os.Stat(device)
		return device != "" && err == nil
	})
	return device
}

// A disk that says that it cannot read a sector fails the job that comes to it, by the volume
// and the place in it: of what is copied, and of what was written and is read back.
func TestMediumErrorOfADisk(t *testing.T) {
	testenv.VM(t)
	const begin, bad = mib, 5 * mib // of the partition, and in it
	h := newHost(t)
	device := h.badDisk(begin + bad)
	_, st, err := h.client.DefinePool(h.ctx(), contract.Submit{}, contract.PoolDefine{
		Name: "disk", Type: "disk", Source: record.Source{Devices: []string{device}},
	}, true, true)
	h.succeed(st, err)
	node := device + "1"
	volume := "disk/" + filepath.Base(node)
	h.succeed(h.create(volume, 16*mib))
	forget(t)
	at := func(j record.Job) {
		t.Helper()
		h.failedAt(j, record.IO, node, true)
		if e := j.Error; e != nil && e.Offset != nil && (*e.Offset > bad || *e.Offset < bad-4*mib) {
			t.Errorf("the error is at byte %d, of a sector at %d", *e.Offset, bad)
		}
	}
	at(h.end(h.clone(volume, "pool/copy")))
	h.absent("copy")
	forget(t)
	at(h.end(h.wipe(volume, acceptLimits, verified)))
	h.succeed(h.remove(volume))
	h.succeed(h.stopPool("disk"))
	h.succeed(h.deletePool("disk"))
}
