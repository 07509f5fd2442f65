package main_test

import (
	"bytes"
	"os"
	"testing"

	"storaged/internal/record"
	"storaged/internal/testenv"
)

// swap replaces a volume's file as no job of ours does.
func (h *host) swap(name string, content []byte) {
	h.t.Helper()
	h.must(os.WriteFile(h.dir+"/new", content, 0o600))
	h.must(os.Rename(h.dir+"/new", h.path(name)))
}

// A file that others have put in a volume's place is not what a verb was meant
// for: nothing is done to it, and from then on the catalog has it.
func TestVerbsLeaveAloneAFileThatWasSwapped(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.must(os.WriteFile(h.dir+"/in", content("in", 4096), 0o600))
	for _, args := range [][]string{
		{"vol", "delete", "pool/v", "--yes"}, {"vol", "delete", "pool/v", "--wipe", "--yes"}, {"vol", "wipe", "pool/v", "--yes"},
		{"vol", "wipe", "pool/v", "--algorithm", "trim", "--accept-limits", "--yes"},
		{"vol", "upload", "pool/v", h.dir + "/in", "--yes"}, {"vol", "resize", "pool/v", "2M"}, {"vol", "resize", "pool/v", "4K", "--shrink", "--yes"},
		{"vol", "move", "pool/v", "pool/new"}, {"vol", "clone", "pool/v", "pool/new"}, {"vol", "verify", "pool/v"},
		{"vol", "download", "pool/v", h.dir + "/out"},
	} {
		h.sparse("v", mib)
		another := bytes.Repeat([]byte("anothers"), mib/8)
		h.swap("v", another)
		h.runs(record.ExitBusy, "somebody has replaced it", args...)
		if b, err := os.ReadFile(h.path("v")); err != nil || !bytes.Equal(b, another) {
			t.Errorf("%q: the file is touched (%v)", args, err)
		}
		if v := h.entry("v"); v.Origin != record.Found || v.State != record.VolumeReady || v.CreatedBy != nil {
			t.Errorf("%q: the volume is %s", args, shown(v))
		}
		h.runs(0, "", args...)
		for _, name := range []string{"v", "new"} {
			h.runs(0, "", "vol", "delete", "pool/"+name, "--missing-ok", "--yes")
		}
		h.must(os.RemoveAll(h.dir + "/out"))
	}
}

// On an overlay inodes and times of birth do not tell all: a file of a lower layer gets a copy
// when it is opened for writing, and is the same volume still.
func TestVerbsLeaveAloneAFileThatWasSwappedOnAnOverlay(t *testing.T) {
	t.Parallel()
	testenv.Root(t)
	h := newHost(t)
	lower := t.TempDir()
	h.must(os.WriteFile(lower+"/low", noise(mib), 0o600))
	dir := testenv.Overlay(t, lower, t.TempDir())
	h.define("layers", dir)
	h.runs(0, "", "vol", "wipe", "layers/low", "--accept-limits", "--yes")
	for _, name := range []string{"low", "made"} {
		h.runs(0, "", "vol", "create", "layers/made", "1M", "--exist-ok")
		theirs := bytes.Repeat([]byte("theirs"), 100)
		h.must(os.WriteFile(dir+"/.new", theirs, 0o600))
		h.must(os.Rename(dir+"/.new", dir+"/"+name))
		h.runs(record.ExitBusy, "somebody has replaced it", "vol", "wipe", "layers/"+name, "--accept-limits", "--yes")
		if b, err := os.ReadFile(dir + "/" + name); err != nil || !bytes.Equal(b, theirs) {
			t.Errorf("%s is touched (%v)", name, err)
		}
	}
}
