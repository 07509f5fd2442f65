package main_test

import (
	"strings"
	"syscall"
	"testing"

	"storaged/internal/record"
	"storaged/internal/testenv"
	"storaged/internal/virtrpc/virtrpctest"
)

// virshSays is what a command of virsh writes, which must succeed.
func (h *host) virshSays(args ...string) string {
	h.t.Helper()
	out, ok := virtrpctest.Virsh(h.t, h.libvirtURI(), args...)
	if !ok {
		h.t.Errorf("virsh %q: %s", args, out)
	}
	return out
}

// allocation is what vol-info says of a logical volume.
func (h *host) allocation(name string) string {
	h.t.Helper()
	_, text, _ := strings.Cut(h.virshSays("vol-info", name, "--pool", "vg", "--bytes"), "Allocation:")
	return strings.TrimSpace(text)
}

// What libvirt's clients see of jobs is the same of logical volumes: a copy is listed and
// grows until it is whole, a daemon that is killed takes nothing with it, and who interrupts
// a wipe leaves a job that can be canceled.
func TestLibvirtsClientsSeeJobsOfLogicalVolumes(t *testing.T) {
	testenv.VM(t)
	h := newHost(t)
	h.onGroup()
	h.succeed(h.create("vg/disk", 32*mib))
	content := noise(32 * mib)
	h.asGuest("/dev/group/disk", content)
	hurry := h.slowed()
	h.copyIsSeenToGrow(hurry)
	h.zeroBehind("/dev/group/copy", content)
	hurry = h.slowed()
	h.copyOutlivesTheDaemon(hurry)
	h.zeroBehind("/dev/group/third", content)
	hurry = h.slowed()
	h.wipeIsInterrupted(hurry)
}

func (h *host) copyIsSeenToGrow(hurry func()) {
	h.t.Helper()
	virsh := h.virsh("vol-clone", "disk", "copy", "--pool", "vg")
	h.running(of(h.newest(record.VolumeClone)))
	seen := map[string]bool{}
	h.await("the copy grows", func() bool {
		seen[h.allocation("copy")] = true
		return len(seen) >= 3
	})
	if seen["33554432 bytes"] {
		h.t.Errorf("while it was copied it had %v", seen)
	}
	if out := h.virshSays("vol-list", "vg"); !strings.Contains(out, "/dev/group/copy") {
		h.t.Errorf("the copy is not listed: %s", out)
	}
	hurry()
	if code := virsh.code(); code != 0 || h.allocation("copy") != "33554432 bytes" {
		h.t.Errorf("virsh ends with %d, and the copy has %s:\n%s", code, h.allocation("copy"), virsh.log.String())
	}
}

func (h *host) copyOutlivesTheDaemon(hurry func()) {
	h.t.Helper()
	virsh := h.virsh("vol-clone", "disk", "third", "--pool", "vg")
	j := h.running(of(h.newest(record.VolumeClone)))
	h.kill()
	if code := virsh.code(); code != 1 {
		h.t.Errorf("virsh ends with %d:\n%s", code, virsh.log.String())
	}
	h.start()
	h.runs(0, "volume.clone", "job", "list", "--volume", "vg/third")
	hurry()
	h.succeed(of(j), nil)
	h.is("vg/third", record.Volume{State: record.VolumeReady})
}

func (h *host) wipeIsInterrupted(hurry func()) {
	h.t.Helper()
	virsh := h.virsh("vol-wipe", "copy", "--pool", "vg")
	j := h.running(of(h.newest(record.VolumeWipe)))
	h.must(virsh.Process.Signal(syscall.SIGINT))
	if code := virsh.code(); code == 0 {
		h.t.Errorf("virsh was not interrupted: %s", virsh.log.String())
	}
	h.running(of(j))
	h.runs(0, "", "job", "cancel", itoa(int(j.Number)))
	h.jobIs(h.end(of(j), nil), record.Job{State: record.Canceled, Rollback: record.RollbackKept})
	h.is("vg/copy", record.Volume{State: record.VolumeIncomplete, Job: &j.Number})
	hurry()
	h.virshSays("vol-wipe", "copy", "--pool", "vg")
	h.zeroBehind("/dev/group/copy", nil)
	for _, name := range []string{"copy", "third", "disk"} {
		h.virshSays("vol-delete", name, "--pool", "vg")
	}
	h.virshSays("pool-destroy", "vg")
	h.virshSays("pool-delete", "vg")
}
