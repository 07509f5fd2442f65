package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"storaged/internal/record"
	"storaged/internal/testenv"
)

// What a client gives, and what it asks for, is a content that its source once
// had, or none.
func TestSourceThatIsChangedIsNotTaken(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.random("disk", 8*mib)
	source := filepath.Join(t.TempDir(), "vm.img")
	h.must(os.WriteFile(source, noise(8*mib), 0o600))
	for _, c := range []struct {
		file string
		kind record.Kind
		args []string
	}{
		{source, record.VolumeUpload, []string{"vol", "upload", "pool/disk", source, "--yes"}},
		{source, record.VolumeCreate, []string{"vol", "create", "pool/new", "--from", source}},
		{h.path("disk"), record.VolumeDownload, []string{"vol", "download", "pool/disk", filepath.Join(t.TempDir(), "copy")}},
		{h.path("disk"), record.VolumeClone, []string{"vol", "clone", "pool/disk", "pool/new"}},
		{h.path("disk"), record.VolumeVerify, []string{"vol", "verify", "pool/disk"}},
	} {
		if c.kind != record.VolumeUpload {
			h.runs(0, "", "vol", "wipe", "pool/disk", "--yes") // it is whole again
			h.must(os.WriteFile(h.path("disk"), noise(8*mib), 0o600))
		}
		p := h.spawn(nil, append(c.args, "--limit", "2M")...)
		h.written(h.newest(c.kind).ID, 1)
		f := must(os.OpenFile(c.file, os.O_WRONLY|os.O_APPEND, 0))(t)
		_, err := f.WriteString("it grows")
		h.must(err)
		h.must(f.Close())
		h.runs(0, "", "job", "limit", "--kind", string(c.kind), "none")
		if code := p.code(); code != record.ExitBusy || !strings.Contains(p.log.String(), "was changed while it was read") {
			t.Errorf("%q: exit %d\n%s", c.args, code, p.log.String())
		}
	}
	h.absent("new")
}

func TestSourceThatAVirtualMachineHasIsBusy(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.sparse("disk", mib)
	source := filepath.Join(t.TempDir(), "vm.img")
	h.must(os.WriteFile(source, noise(mib), 0o600))
	holder := testenv.QEMU(t, "-f", "raw", source)
	h.runs(4, "in use by "+holder, "vol", "upload", "pool/disk", source, "--yes")
	h.runs(4, "in use by "+holder, "vol", "create", "pool/new", "--from", source)
	h.runs(0, "disk", "vol", "list", "pool")
	h.absent("new")
}
