package helper

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"storaged/internal/backends"
	"storaged/internal/backends/header"
	"storaged/internal/blockdev"
	"storaged/internal/diskio"
	"storaged/internal/format/formattest"
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

func (s stored) Info() (backends.VolumeInfo, error) {
	st, err := blockdev.Statx(s.file)
	return backends.VolumeInfo{Path: s.file.Name(), Size: int64(st.Size), ID: header.FileID(s.file, &st)}, err
}

func (s stored) Is(id backends.Identity) error {
	info, err := s.Info()
	if err == nil && info.ID != id {
		err = &backends.AnotherError{Path: info.Path}
	}
	return err
}

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
	must(t, r.MakeDisk(ctx, top, Blank{Format: "qcow2", Capacity: 2 * mib, BackingName: "base", BackingFormat: "raw"}))
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
	for code, end := range map[record.Code]*tool.EndError{record.Killed: {Exit: -1}, record.FailedCode: {Exit: -1, Limit: "processor time"}} {
		if e := Fault(fmt.Errorf("write: %w", end), Task{Doing: "write"}); e.Code != string(code) {
			t.Errorf("%+v is told as %s", end, e.Code)
		}
	}
	e := Fault(&tool.MissingError{Program: tool.StorageDaemon}, Task{Doing: "read"})
	if e.Code != string(record.Unsupported) || !strings.Contains(e.Hint, "qemu-system-common") || !strings.Contains(e.Hint, "qemu-img") {
		t.Errorf("%+v", e)
	}
}

// No child is started for an image that names what was not given, or whose header has
// a problem, whatever would confine it.
func TestHostileImagesAreNotOpened(t *testing.T) {
	dir := t.TempDir()
	r, ctx := testRun(t)
	must(t, r.prepareLinks(1))
	defer r.dropLinks()
	for i, c := range formattest.Corpus(formattest.Bait{File: filepath.Join(dir, "canary"), Socket: filepath.Join(dir, "socket")}) {
		twofold := strings.Contains(c.Problem, "two things at once") // which does not matter where the format is known
		if twofold || c.Problem == "" && c.Backing == "" && c.Data == nil {
			continue // and there is nothing against it
		}
		path := filepath.Join(dir, strconv.Itoa(i))
		must(t, c.Write(path))
		file, err := os.Open(path)
		must(t, err)
		_, err = r.Disk(ctx, stored{file: file}, Disk{Format: c.Format})
		if record.CodeOf(err) != record.Unsupported || len(r.links) != 1 {
			t.Fatalf("%s: %v, %d of 1 links are left", c.Name, err, len(r.links))
		}
		file.Close()
		must(t, os.Remove(path))
	}
}

// An image whose content is in another file is opened with the one that is given, and
// one that names its backing with that.
func TestWhatAnImageNamesHasToBeGiven(t *testing.T) {
	qemuImg := testenv.Tool(t, "qemu-img")
	dir := t.TempDir()
	r, ctx := testRun(t)
	for _, args := range [][]string{
		{"-f", "raw", "base", "1M"}, {"-f", "qcow2", "-F", "raw", "-b", "base", "middle"}, {"-f", "qcow2", "-F", "qcow2", "-b", "middle", "-o", "data_file=data", "top"},
	} {
		cmd := exec.Command(qemuImg, append([]string{"create", "-q"}, args...)...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	layer := func(name, format string) Layer {
		return Layer{Volume: &Volume{Volume: storedFile(t, dir, name)}, Format: format, Data: name == "data"}
	}
	top := storedFile(t, dir, "top")
	all := Chain{layer("data", "raw"), layer("middle", "qcow2"), layer("base", "raw")}
	for _, chain := range []Chain{nil, all[:1], all[1:], all[:2]} {
		if _, err := r.Disk(ctx, top, Disk{Format: "qcow2", Chain: chain}); record.CodeOf(err) != record.Unsupported {
			t.Errorf("with %d layers: %v", len(chain), err)
		}
	}
	// Nor is it opened with others than those that it names, by whatever name.
	must(t, os.Link(filepath.Join(dir, "base"), filepath.Join(dir, "same")))
	for _, name := range []string{"data", "middle", "base"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		must(t, err)
		must(t, os.WriteFile(filepath.Join(dir, "other"), b, 0o600))
		chain := slices.Clone(all)
		for i, l := range all {
			if l.Volume.Volume.(stored).file.Name() == filepath.Join(dir, name) {
				chain[i] = layer("other", l.Format)
				chain[i].Data = l.Data
			}
		}
		if _, err := r.Disk(ctx, top, Disk{Format: "qcow2", Chain: chain}); record.CodeOf(err) != record.Changed {
			t.Errorf("with another %s: %v", name, err)
		}
	}
	if _, err := r.Disk(ctx, top, Disk{Format: "qcow2", Chain: append(slices.Clone(all), layer("other", "raw"))}); record.CodeOf(err) != record.Changed {
		t.Errorf("with one more: %v", err)
	}
	all[2] = layer("same", "raw")
	i, err := r.Disk(ctx, top, Disk{Format: "qcow2", Chain: all})
	must(t, err)
	must(t, i.Close())
}

// A part of a vmdk that says of itself that its content is elsewhere, or is of another kind
// than the descriptor has it, is not opened: QEMU would look for that.
func TestPartsOfAnImageAreVetted(t *testing.T) {
	dir := t.TempDir()
	r, ctx := testRun(t)
	must(t, r.prepareLinks(1))
	defer r.dropLinks()
	text := func(kind string) string {
		return "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\ncreateType=\"twoGbMaxExtentSparse\"\nRW 2048 " + kind + " \"part\"\n"
	}
	var sparse, inner []byte
	for _, c := range formattest.Corpus(formattest.Bait{File: filepath.Join(dir, "canary"), Socket: filepath.Join(dir, "socket")}) {
		if c.Name == "vmdk that is a descriptor and no more" {
			inner = append(c.Head, make([]byte, c.Size-int64(len(c.Head)))...)
		}
	}
	sparse = append(bytes.Clone(inner[:512]), make([]byte, 64<<10)...)
	sparse[12+1] = 8 // 2048 sectors
	for name, c := range map[string]struct {
		text, format string
		part         []byte
		want         record.Code
	}{
		"sound": {text("SPARSE"), "vmdk", sparse, ""}, "a descriptor": {text("SPARSE"), "vmdk", inner, record.Unsupported},
		"of no format": {text("SPARSE"), "vmdk", make([]byte, 64<<10), record.Unsupported}, "of ESX": {text("VMFSSPARSE"), "vmdk", sparse, record.Unsupported},
		"flat": {text("FLAT"), "vmdk", sparse, record.Changed}, "not flat": {text("SPARSE"), "raw", sparse, record.Changed},
	} {
		top, part := storedFile(t, dir, "top"), storedFile(t, dir, "part")
		must(t, os.WriteFile(filepath.Join(dir, "top"), []byte(c.text), 0o600))
		must(t, os.WriteFile(filepath.Join(dir, "part"), c.part, 0o600))
		i, err := r.Disk(ctx, top, Disk{Format: "vmdk", Chain: Chain{{Volume: &Volume{Volume: part}, Format: c.format, Data: true}}})
		if record.CodeOf(err) != c.want || (err == nil) != (len(r.links) == 0) {
			t.Errorf("%s: %v, %d links are left", name, err, len(r.links))
		}
		if i != nil {
			must(t, i.Close())
			must(t, r.prepareLinks(1))
		}
	}
}
