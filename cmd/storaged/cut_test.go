package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"storaged/internal/record"
	"storaged/internal/testenv"
)

// cutOff puts an image into the pool whose file ends too early.
func (h *host) cutOff(name, in string) {
	h.t.Helper()
	content := h.holding(name+".content", noise(4*mib))
	h.qemuTool("qemu-img", "convert", "-f", "raw", "-O", in, content.Name(), h.path(name))
	h.must(os.Truncate(h.path(name), 3*mib))
	h.must(h.refresh("pool"))
}

// What is missing of an image reads as zeros, and nobody would know: so it is read by
// no job until somebody says that it shall be like that.
func TestAnImageThatIsCutOffIsNotReadUntilItIsRepaired(t *testing.T) {
	t.Parallel()
	testenv.Tool(t, "qemu-storage-daemon")
	h := newHost(t)
	const cut = "is cut off: its file ends at 3145728, and a cluster of its content lies at 3145728"
	h.cutOff("image", "qcow2")
	out := must(os.Create(filepath.Join(h.dir, "out")))(t)
	defer out.Close()
	refused := h.refuses(record.Unsupported, cut)
	h.runs(record.ExitUnsupported, "vol verify pool/image --check --repair all", "vol", "verify", "pool/image")
	refused(h.clone("image", "copy", format("raw")))
	refused(h.clone("image", "copy", linked))
	refused(h.handDown("image", out, asRaw))
	refused(h.verify("image"))
	refused(h.create("over", 0, format("qcow2"), field("backing", "image")))
	refused(h.resize("image", 8*mib))
	file := h.holding("file", must(os.ReadFile(h.path("image")))(t))
	h.fails(h.end(h.hand("put", file, creating(named("put"), format("qcow2")))), record.Invalid, cut)
	h.fails(h.end(h.checked("image")), record.Mismatch, "is corrupt")
	h.fails(h.end(h.checked("image", field("repair", record.RepairLeaks))), record.WrongState, "nothing was changed")
	kept := h.succeed(h.clone("image", "kept")) // the file as it is
	if !strings.Contains(strings.Join(kept.Warnings, "\n"), cut) {
		t.Errorf("who copies the file is warned of %q", kept.Warnings)
	}
	h.fails(h.end(h.clone("kept", "copy", linked)), record.Unsupported, cut)
	h.fails(h.end(h.verify("kept")), record.Unsupported, cut) // its header is read now
	h.runs(0, "ended at byte 3145728, and is as long again", "vol", "verify", "pool/image", "--check", "--repair", "all", "--yes")
	h.succeed(h.verify("image"))
	h.succeed(h.clone("image", "copy", format("raw")))
	h.cutOff("disk", "vdi") // in which QEMU itself finds nothing
	h.fails(h.end(h.checked("disk")), record.Mismatch, "is corrupt")
	h.succeed(h.checked("disk", field("repair", record.RepairAll)))
	h.succeed(h.verify("disk"))
}
