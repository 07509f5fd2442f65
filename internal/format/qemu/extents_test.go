package qemu

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"storaged/internal/format"
)

// split makes a vmdk of that kind with a content in other files, which are elsewhere by
// then, and canaries where its descriptor has them.
func split(t *testing.T, kind string, raw *os.File) Layer {
	t.Helper()
	dir, away := t.TempDir(), t.TempDir()
	path := filepath.Join(dir, "disk.vmdk")
	qemuIMG(t, "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat="+kind, raw.Name(), path)
	l := Layer{Format: "vmdk"}
	var err error
	l.File, err = os.Open(path)
	must(t, err)
	t.Cleanup(func() { l.File.Close() })
	st, err := l.File.Stat()
	must(t, err)
	i, err := format.InspectAs(l.File, st.Size(), "vmdk")
	if err != nil || i.Problem != "" || len(i.Data) == 0 {
		t.Fatalf("%+v, %v", i, err)
	}
	for n, name := range i.Data {
		moved := filepath.Join(away, fmt.Sprint(n))
		must(t, os.Rename(filepath.Join(dir, name), moved))
		must(t, os.WriteFile(filepath.Join(dir, name), bytes.Repeat([]byte("canary"), 1<<16), 0o600))
		f, err := os.Open(moved)
		must(t, err)
		t.Cleanup(func() { f.Close() })
		l.Extents = append(l.Extents, f)
	}
	return l
}

// The content of a vmdk that lies in other files is that of the files that are given,
// whatever its descriptor names.
func TestExtentsAreWhatTheCallerGives(t *testing.T) {
	raw := file(t, "raw")
	const size = 5 << 30
	must(t, raw.Truncate(size))
	places := []int64{0, 2<<30 - 64<<10, 2 << 30, 4<<30 + 12345, size - 64<<10}
	for n, at := range places {
		_, err := raw.WriteAt(pattern(uint64(n), 64<<10), at)
		must(t, err)
	}
	for _, kind := range []string{"monolithicFlat", "twoGbMaxExtentFlat", "twoGbMaxExtentSparse"} {
		t.Run(kind, func(t *testing.T) {
			l := split(t, kind, raw)
			i := opened(t, l, Options{})
			if n, err := i.Size(); err != nil || n != size {
				t.Errorf("it has %d bytes, %v", n, err)
			}
			for _, at := range places {
				want, got := make([]byte, 64<<10), make([]byte, 64<<10)
				_, err := raw.ReadAt(want, at)
				must(t, err)
				_, err = i.ReadAt(got, at)
				must(t, err)
				if !bytes.Equal(got, want) {
					t.Errorf("at %d it has another content", at)
				}
			}
			must(t, i.Close())
			l.Extents = l.Extents[1:]
			if _, err := Open(t.Context(), l, Options{}); err == nil && len(l.Extents) > 0 {
				t.Error("it is opened with a file too few")
			}
		})
	}
}

// An image that stands on one whose content lies in other files is opened with those.
func TestAnImageStandsOnExtents(t *testing.T) {
	raw := file(t, "raw")
	want := pattern(7, 3*mib)
	_, err := raw.Write(want)
	must(t, err)
	base := split(t, "twoGbMaxExtentSparse", raw)
	for _, in := range []string{"vmdk", "qcow2"} {
		top := filepath.Join(t.TempDir(), "top")
		if in == "qcow2" {
			qemuIMG(t, "create", "-f", in, "-F", "vmdk", "-u", "-b", base.File.Name(), top, "3M")
		} else { // it has to know the content that it is of
			whole := filepath.Join(filepath.Dir(top), "whole.vmdk")
			qemuIMG(t, "convert", "-f", "raw", "-O", "vmdk", raw.Name(), whole)
			qemuIMG(t, "create", "-f", in, "-F", "vmdk", "-b", whole, top)
			sameContent(t, base.File.Name(), top)
		}
		f, err := os.Open(top)
		must(t, err)
		defer f.Close()
		if got := content(t, opened(t, Layer{File: f, Format: in, Backing: &base}, Options{})); !bytes.Equal(got, want) {
			t.Errorf("%s: it has another content", in)
		}
	}
}

// sameContent has a vmdk say that it is of the content of a descriptor. QEMU writes the
// numbers without zeros before them, and fills the place of a descriptor with zero bytes.
func sameContent(t *testing.T, base, top string) {
	t.Helper()
	field := func(b []byte, name string) []byte {
		_, value, _ := bytes.Cut(b, []byte(name))
		value, _, _ = bytes.Cut(value, []byte("\n"))
		return value
	}
	text, err := os.ReadFile(base)
	must(t, err)
	b, err := os.ReadFile(top)
	must(t, err)
	old, cid := field(b, "parentCID="), field(text, "CID=")
	before, after, _ := bytes.Cut(b, slices.Concat([]byte("parentCID="), old, []byte("\n")))
	end := bytes.IndexByte(after, 0)
	room := after[end : end+8]
	b = slices.Concat(before, []byte("parentCID="), cid, []byte("\n"), after[:end], room[:8+len(old)-len(cid)], after[end+8:])
	must(t, os.WriteFile(top, b, 0o600))
}
