package header

import (
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"storaged/internal/backends"
	"storaged/internal/format"
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
	if len(all) == 0 || len(all) > backends.MaxReferences || size > maxNames {
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
