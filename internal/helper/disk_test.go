package helper

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"storaged/internal/backends"
	"storaged/internal/diskio"
	"storaged/internal/format/qemu"
	"storaged/internal/record"
	"storaged/internal/testenv"
	"storaged/internal/tool"
)

// stored is a file in place of a volume: as much of one as an image is opened from.
type stored struct {
	backends.Volume
	file *os.File
}

func (s stored) Content() diskio.Content { return diskio.FileContent(s.file) }

func storedFile(t *testing.T, dir, name string) stored {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE, 0o600)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return stored{file: f}
}

func TestImagesAreMadeOpenedResizedAndRepaired(t *testing.T) {
	testenv.Tool(t, tool.StorageDaemon.Name)
	dir := t.TempDir()
	r, ctx := testRun(t)
	must(t, r.prepareLinks(3))
	defer r.dropLinks()
	base, top := storedFile(t, dir, "base"), storedFile(t, dir, "top")
	must(t, base.file.Truncate(2*mib))
	want := bytes.Repeat([]byte("a base "), mib/7+1)[:mib]
	_, err := base.Content().WriteAt(want, 0)
	must(t, err)
	must(t, r.MakeDisk(ctx, top, Blank{Format: "qcow2", Capacity: 2 * mib, BackingName: "elsewhere", BackingFormat: "raw"}))
	d := Disk{Format: "qcow2", Writable: true, Chain: Chain{{Volume: &Volume{Volume: base}, Format: "raw"}}}
	i, err := r.Disk(ctx, top, d)
	must(t, err)
	_, err = i.WriteAt([]byte("the top"), mib)
	must(t, err)
	must(t, i.Close())
	must(t, r.ResizeDisk(ctx, top, d, 4*mib))
	if len(r.links) != 0 {
		t.Errorf("%d of 3 links are left", len(r.links))
	}
	must(t, r.RepairDisk(ctx, top, d))
	if found, err := r.CheckDisk(ctx, top, d, qemu.RepairNothing); err != nil || found.Bad() || found.Clusters != 64 {
		t.Errorf("%+v, %v", found, err)
	}
	d.Writable = false
	i, err = r.Disk(ctx, top, d)
	must(t, err)
	defer i.Close()
	got := make([]byte, mib)
	_, err = i.ReadAt(got, 0)
	must(t, err)
	tail := make([]byte, 7)
	_, err = i.ReadAt(tail, mib)
	must(t, err)
	if size, err := i.Size(); err != nil || size != 4*mib || !bytes.Equal(got, want) || string(tail) != "the top" {
		t.Errorf("size %d, %v, %q, or another content", size, err, tail)
	}
}

func TestAnImageWithoutItsSecretIsNotOpened(t *testing.T) {
	dir := t.TempDir()
	r, ctx := testRun(t)
	_, err := r.Disk(ctx, storedFile(t, dir, "a"), Disk{Format: "luks", Secret: "key"})
	if e := Fault(err, Task{Doing: "read"}); e.Code != string(record.NotFound) || !strings.Contains(e.Hint, "--secret-file key=FILE") {
		t.Errorf("%+v", e)
	}
}

func TestAMissingProgramIsNamedWithItsPackages(t *testing.T) {
	e := Fault(&tool.MissingError{Program: tool.StorageDaemon}, Task{Doing: "read"})
	if e.Code != string(record.Unsupported) || !strings.Contains(e.Hint, "qemu-system-common") || !strings.Contains(e.Hint, "qemu-img") {
		t.Errorf("%+v", e)
	}
}
