package diskio

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"hash/crc32"
	"os"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// scratch is a new file for one run of a property.
func scratch(t *rapid.T, dir string) *os.File {
	f, err := os.CreateTemp(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		f.Close()
		os.Remove(f.Name())
	})
	return f
}

// layout makes a file of random data, holes, preallocated and punched ranges,
// at any offsets, and gives what it must read as.
func layout(t *rapid.T, f *os.File) []byte {
	const most = 4 << 20
	size := rapid.IntRange(0, most).Draw(t, "size")
	content := make([]byte, size)
	check := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	check(f.Truncate(int64(size)))
	for range rapid.IntRange(0, 12).Draw(t, "steps") {
		if size == 0 {
			break
		}
		off := rapid.IntRange(0, size-1).Draw(t, "offset")
		n := rapid.IntRange(1, size-off).Draw(t, "length")
		part := content[off : off+n]
		switch rapid.SampledFrom([]string{"data", "data", "preallocate", "punch", "sync"}).Draw(t, "step") {
		case "data":
			randomFiller([32]byte{byte(off), byte(n)})(part, 0)
			_, err := f.WriteAt(part, int64(off))
			check(err)
		case "preallocate":
			check(unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, int64(off), int64(n)))
		case "punch":
			clear(part)
			check(unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, int64(off), int64(n)))
		case "sync":
			check(f.Sync())
		}
	}
	return content
}

// TestAnyLayoutIsTreatedRight makes a file of any layout, and copies, sums and
// wipes it; the target may be new, larger, used or preallocated.
func TestAnyLayoutIsTreatedRight(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		src, dst := scratch(t, dir), scratch(t, dir)
		want := layout(t, src)
		if rapid.Bool().Draw(t, "used target") {
			layout(t, dst)
		}
		larger := rapid.IntRange(0, 2<<20).Draw(t, "larger")
		p := NewPacer()
		_, err := Copy(context.Background(), p, CopySpec{Dst: dst, Src: src, Size: int64(len(want) + larger)})
		if err != nil {
			t.Fatal(err)
		}
		same(t, "copy", dst, append(bytes.Clone(want), make([]byte, larger)...))
		same(t, "source", src, want)
		if c := p.Counts(); c.Work != c.WorkAll || c.Durable != c.Total {
			t.Fatalf("counts: %+v", c)
		}
		sum, err := Sum(context.Background(), NewPacer(), src, SumSpec{})
		if sha := sha256.Sum256(want); err != nil || !bytes.Equal(sum.Sum, sha[:]) {
			t.Fatalf("wrong SHA-256, error %v", err)
		}
		sum, err = Sum(context.Background(), NewPacer(), src, SumSpec{CRC32C: true})
		if err != nil || binary.BigEndian.Uint32(sum.Sum) != crc32.Checksum(want, castagnoli) {
			t.Fatalf("wrong CRC-32C, error %v", err)
		}
		if _, err := Wipe(context.Background(), NewPacer(), src, WipeSpec{Verify: true}); err != nil {
			t.Fatal(err)
		}
		same(t, "wiped", src, make([]byte, len(want)))
	})
}

func same(t *rapid.T, what string, f *os.File, want []byte) {
	got, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("%s: %d bytes differ from the %d expected", what, len(got), len(want))
	}
}
