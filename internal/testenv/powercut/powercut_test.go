package powercut

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if code, served := Main(); served {
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// ram is a medium.
type ram []byte

func (r ram) ReadAt(p []byte, off int64) (int, error)  { return copy(p, r[off:]), nil }
func (r ram) WriteAt(p []byte, off int64) (int, error) { return copy(r[off:], p), nil }

func filled(b byte, sectors int) []byte { return bytes.Repeat([]byte{b}, sectors*sectorBytes) }

func TestCacheIsLostUnlessFlushed(t *testing.T) {
	medium := ram(filled('0', 8))
	c := newCache(medium)
	mustWrite(t, c, filled('1', 4), 0)
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, c, filled('2', 4), 2*sectorBytes)
	got := make([]byte, 8*sectorBytes)
	if _, err := c.ReadAt(got, 0); err != nil || summary(got) != "11222200" {
		t.Errorf("before the cut it reads %s (%v)", summary(got), err)
	}
	loss, err := c.Cut(Cut{Seed: 1})
	if want := (Loss{Pending: 4}); err != nil || loss != want || summary(medium) != "11110000" {
		t.Errorf("lost %d sectors, %d kept (%v), left %s", loss.Pending, loss.Kept, err, summary(medium))
	}
}

func TestCutTearsByTheSector(t *testing.T) {
	seen := map[string]bool{}
	for seed := range uint64(64) {
		medium := ram(filled('0', 2))
		c := newCache(medium)
		mustWrite(t, c, filled('1', 2), 0)
		mustWrite(t, c, filled('2', 1), 0)
		if _, err := c.Cut(Cut{Seed: seed, Keep: 0.5}); err != nil {
			t.Fatal(err)
		}
		seen[summary(medium)] = true
	}
	for _, want := range []string{"00", "01", "10", "11", "20", "21"} {
		if !seen[want] {
			t.Errorf("never left %s", want)
		}
	}
	if len(seen) != 6 {
		t.Errorf("left %v", seen)
	}
}

func TestCutTakesThePlaceOfTheNextFlush(t *testing.T) {
	medium := ram(filled('0', 2))
	c := newCache(medium)
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	c.arm(Cut{Flush: true})
	if err := c.Flush(); err != nil { // it has nothing to do, and is none
		t.Fatal(err)
	}
	mustWrite(t, c, filled('1', 2), 0)
	go func() {
		_ = c.Flush()
		t.Error("a flush without power was answered")
	}()
	if o, want := <-c.cut, (Loss{Pending: 2}); o.loss != want || o.err != nil || summary(medium) != "00" {
		t.Errorf("lost %d sectors, %d kept (%v), left %s", o.loss.Pending, o.loss.Kept, o.err, summary(medium))
	}
}

func TestCacheRefusesPartsOfSectors(t *testing.T) {
	c := newCache(ram(filled('0', 2)))
	if _, err := c.WriteAt(make([]byte, 100), 0); err == nil {
		t.Error("took 100 bytes")
	}
	if _, err := c.WriteAt(filled('1', 1), 100); err == nil {
		t.Error("took a sector at byte 100")
	}
}

func mustWrite(t *testing.T, c *cache, p []byte, off int64) {
	t.Helper()
	if _, err := c.WriteAt(p, off); err != nil {
		t.Fatal(err)
	}
}

// summary is a letter per sector, "?" for one that is not all the same.
func summary(b []byte) string {
	var s strings.Builder
	for sector := range slices.Chunk(b, sectorBytes) {
		if !bytes.Equal(sector, bytes.Repeat(sector[:1], len(sector))) {
			s.WriteByte('?')
			continue
		}
		s.WriteByte(sector[0])
	}
	return s.String()
}

// TestOnlyWhatWasFlushedSurvives holds the whole rig, on every file system,
// against what fsync(2) promises and what it does not: a rig that loses nothing
// finds nothing.
func TestOnlyWhatWasFlushedSurvives(t *testing.T) {
	for kind := range checks {
		t.Run(kind, func(t *testing.T) {
			d := New(t, kind)
			old, now := filled('o', 64), filled('n', 64)
			path := func(name string) string { return filepath.Join(d.Dir, name) }
			write(t, path("synced"), old, true)
			write(t, path("overwritten"), old, true)
			write(t, path("renamed.tmp"), old, true)
			syncDir(t, d.Dir)
			write(t, path("synced"), now, true)
			write(t, path("overwritten"), now, false) // past the page cache: in the disk's, not flushed
			rename(t, path("renamed.tmp"), path("renamed"))
			loss := d.Cut(Cut{})
			d.Restore(func() {})
			if loss.Pending == 0 || loss.Kept != 0 {
				t.Errorf("the cut lost %d sectors, %d kept", loss.Pending, loss.Kept)
			}
			expect(t, path("synced"), now)
			expect(t, path("overwritten"), old)
			expect(t, path("renamed.tmp"), old)
			if _, err := os.Stat(path("renamed")); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("a rename that was not made durable survived: %v", err)
			}
			rename(t, path("renamed.tmp"), path("renamed"))
			syncDir(t, d.Dir)
			d.Cut(Cut{})
			d.Restore(func() {})
			expect(t, path("renamed"), old)
		})
	}
}

// write overwrites a file with O_DIRECT, so that it is the disk's cache that
// has it.
func write(t *testing.T, path string, b []byte, sync bool) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|unix.O_DIRECT, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	buffer, err := unix.Mmap(-1, 0, len(b), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE) // aligned
	if err != nil {
		t.Fatal(err)
	}
	copy(buffer, b)
	_, err = f.Write(buffer)
	if err == nil && sync {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close(), unix.Munmap(buffer)); err != nil {
		t.Fatal(err)
	}
}

func syncDir(t *testing.T, dir string) {
	t.Helper()
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		t.Fatal(err)
	}
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func expect(t *testing.T, path string, want []byte) {
	t.Helper()
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s is %q (%v), not %q", filepath.Base(path), summary(got), err, summary(want))
	}
}
