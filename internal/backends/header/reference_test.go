package header

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"storaged/internal/backends"
	"storaged/internal/format"
	"storaged/internal/record"
	"storaged/internal/testenv"
)

func TestReferencesAreWhatTheNamesLeadTo(t *testing.T) {
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	pool := filepath.Join(root, "pool")
	for _, d := range []string{pool, filepath.Join(root, "a/b")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	base := filepath.Join(root, "a/base")
	if err := os.WriteFile(base, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(root, "a/b"), filepath.Join(pool, "way")); err != nil {
		t.Fatal(err)
	}
	f := NewReader()
	for name, want := range map[string]backends.Reference{
		base:                      {Path: base, ID: "any"},
		"../a/base":               {Path: base, ID: "any", Relative: true},
		"way/../base":             {Path: base, ID: "any", Relative: true}, // the kernel's "..", not the text's
		"file:" + base:            {Path: base, ID: "any"},
		root + "/a//./base":       {Path: base, ID: "any"},
		"nothing":                 {Path: pool + "/nothing", Relative: true},
		format.Unnamed:            {Relative: true},
		"nbd://host/export":       {},
		"json:{}":                 {},
		"a\xffb":                  {Path: pool + `/a\xffb`, Relative: true},
		strings.Repeat("x/", 500): {Path: filepath.Clean(pool + "/" + strings.Repeat("x/", 500)), Relative: true},
	} {
		got := f.references(pool, format.Image{Backing: name})
		if len(got) != 1 || got[0].Path != want.Path || (got[0].ID != "") != (want.ID != "") || got[0].Relative != want.Relative || got[0].Data {
			t.Errorf("%q: %+v, want %+v", name, got, want)
		}
	}
}

func TestReferencesAreBounded(t *testing.T) {
	var h format.Image
	for range 1000 {
		h.Data = append(h.Data, strings.Repeat("x", 900))
	}
	size := 0
	all := NewReader().references("/p", h)
	for _, r := range all {
		size += len(r.Name) + len(r.Path)
	}
	if len(all) == 0 || len(all) > record.MaxReferences || size > maxNames {
		t.Errorf("%d references of %d bytes", len(all), size)
	}
}

func TestReferenceThatHangsIsWaitedForOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hangs, asked := make(chan struct{}), new(atomic.Int64)
		f := finder{known: map[string]backends.Reference{}, locate: func(_ string, r backends.Reference) backends.Reference {
			asked.Add(1)
			<-hangs
			return r
		}}
		for _, name := range []string{"/dead/a", "/dead/b", "/dead/a"} {
			if got := f.references("/p", format.Image{Backing: name}); len(got) != 1 || got[0].Path != name || got[0].ID != "" {
				t.Errorf("%s: %+v", name, got)
			}
		}
		if asked.Load() != 1 {
			t.Errorf("asked %d times", asked.Load())
		}
		close(hangs)
	})
}

// What a volume is in each format that it begins like is told: who knows its format takes
// that, whatever a guest has written into it.
func TestHeaderIsReadByEveryFormatThatItMayBe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk.vhd")
	if out, err := exec.Command(testenv.Tool(t, "qemu-img"), "create", "-q", "-f", "vpc", "-o", "subformat=fixed,force_size=on", path, "1M").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	copy(b, "QFI\xfb\x00\x00\x00\x03")
	info := backends.VolumeInfo{Path: path, Size: int64(len(b))}
	if err := NewReader().Read(bytes.NewReader(b), &info); err != nil {
		t.Fatal(err)
	}
	if info.Format != "qcow2" || info.Problem == "" || len(info.As) != 1 || info.As[0].Format != "vpc" || info.As[0].Capacity != 1<<20 || info.As[0].Problem != "" {
		t.Errorf("%+v", info)
	}
}

// growing is a file that somebody writes to: it is longer by the next look.
type growing struct {
	*bytes.Reader
	size int64
}

func (g *growing) Size() (int64, error) {
	g.size += 64 << 10
	return min(g.size, g.Reader.Size()), nil
}

// A file that grows while it is looked at is not cut off; one that does not is.
func TestWhatGrowsIsNotCutOff(t *testing.T) {
	dir := t.TempDir()
	content, path := filepath.Join(dir, "content"), filepath.Join(dir, "image")
	if err := os.WriteFile(content, bytes.Repeat([]byte("storaged"), 1<<17), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(testenv.Tool(t, "qemu-img"), "convert", "-O", "qcow2", content, path).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, missing := range []int{64 << 10, 128 << 10, 512 << 10} {
		info := backends.VolumeInfo{Size: int64(len(b) - missing)}
		if err := NewReader().Read(&growing{bytes.NewReader(b), info.Size}, &info); err != nil || info.Problem != "" || info.Cut {
			t.Errorf("with %d bytes to come: %+v, %v", missing, info, err)
		}
		info = backends.VolumeInfo{Size: int64(len(b) - missing)}
		if err := NewReader().Read(bytes.NewReader(b[:info.Size]), &info); err != nil || !info.Cut {
			t.Errorf("without %d bytes: %+v, %v", missing, info, err)
		}
	}
}
