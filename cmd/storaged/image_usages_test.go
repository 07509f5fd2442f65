package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/testenv"
)

// Images of which the volumes of imageUsages are made, in the host's directory.
const (
	overlaidImage = "overlaid" // qcow2 that stands on the volume "below" and lacks a part
	brokenImage   = "broken"   // qcow2 whose tables a repair writes
	keyedImage    = "keyed"    // luks that the secret "first" opens
)

// checked asks to check the tables of an image, and to repair them where that is said.
func (h *host) checked(volume string, options ...option) (started, error) {
	h.t.Helper()
	return h.ask(at(volume), new(operation.CheckRequest), options...)
}

// dirty leaves a qcow2 with lazy reference counts as one that was not closed.
func (h *host) dirty(path string) {
	h.t.Helper()
	_ = exec.CommandContext(h.ctx(), testenv.Tool(h.t, "qemu-io"), "-f", "qcow2", "-c", "write 0 3M", "-c", "abort", path).Run() // it says that it was killed
	if info := h.qemuTool("qemu-img", "info", path); !strings.Contains(info, "cleanly shut down: no") {
		h.t.Errorf("it is not dirty: %s", info)
	}
}

// fillEnd has no holes left in the last MiB of a file, so that reading it takes a while.
func (h *host) fillEnd(path string) {
	h.t.Helper()
	f := must(os.OpenFile(path, os.O_WRONLY, 0))(h.t)
	defer f.Close() // what it holds need not last
	must(f.WriteAt(noise(mib), must(f.Stat())(h.t).Size()-mib))(h.t)
}

// dropFrozen takes away the snapshots that a test leaves, as no leftovers.
func (h *host) dropFrozen() {
	files, err := filepath.Glob(h.path(".*@s.storaged"))
	h.must(err)
	for _, f := range files {
		h.must(os.Remove(f))
	}
}

// imageUsages are all jobs that change how an image is kept, or what it stands on.
func imageUsages(h *host) []usage {
	h.t.Helper()
	h.random("below", volumeBytes)
	h.random("beside", volumeBytes)
	h.qemuTool("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", h.path("below"), filepath.Join(h.dir, overlaidImage))
	h.qemuIO(filepath.Join(h.dir, overlaidImage), "write -P 1 0 3M")
	h.qemuTool("qemu-img", "create", "-q", "-f", "qcow2", "-o", "lazy_refcounts=on", filepath.Join(h.dir, brokenImage), "4M")
	h.dirty(filepath.Join(h.dir, brokenImage))
	testenv.LUKS(h.t, filepath.Join(h.dir, keyedImage), canary("first"))
	h.fillEnd(filepath.Join(h.dir, keyedImage))
	h.setSecret("first", canary("first"))
	h.setSecret("second", canary("second"))
	of := func(verb func(string, ...option) (started, error), suffix string, more ...option) func(*host, string, ...option) (started, error) {
		return func(_ *host, volume string, o ...option) (started, error) {
			return verb(volume+suffix, append(o, more...)...)
		}
	}
	return []usage{
		{"flatten", false, true, of(h.flatten, ""), overlaidImage, unfrozen},
		{"rebase", false, true, func(_ *host, volume string, o ...option) (started, error) { return h.rebase(volume, "beside", o...) }, overlaidImage, unfrozen},
		{"check", true, true, of(h.checked, ""), overlaidImage, unfrozen},
		{"repair", false, true, of(h.checked, "", field("repair", record.RepairAll)), brokenImage, unfrozen},
		{"freeze", false, true, func(_ *host, volume string, o ...option) (started, error) { return h.freeze(volume, "s", o...) }, overlaidImage, unfrozen},
		{"restore", false, true, of(h.restore, "@s"), overlaidImage, frozen},
		{"restore-read", true, true, of(h.restore, "@s"), overlaidImage, thawing},
		{"drop", false, true, of(h.dropSnapshot, "@s"), overlaidImage, thawing},
		{"rekey", false, true, of(h.rekey, "", newSecret("second")), keyedImage, unfrozen},
		{"grow-image", false, true, func(_ *host, volume string, o ...option) (started, error) {
			return h.resize(volume, 2*volumeBytes, o...)
		}, overlaidImage, unfrozen},
		{"trim-image", false, true, of(h.trim, ""), overlaidImage, unfrozen},
		{"wipe-image", false, true, of(h.wipe, "", ofContent), overlaidImage, unfrozen},
	}
}
