package contenttest

import (
	"bytes"
	"crypto/sha256"
	"io"
	"testing"

	"pgregory.net/rapid"

	"storaged/internal/diskio"
	"storaged/internal/diskio/diskiotest"
)

// layout makes a content of any layout, and gives what it must read as.
func layout(t *rapid.T, size int) (*Memory, []byte) {
	m, want := NewMemory(int64(size)), make([]byte, size)
	for range rapid.IntRange(0, 12).Draw(t, "steps") {
		off := rapid.IntRange(0, size-1).Draw(t, "offset")
		part := want[off : off+rapid.IntRange(1, size-off).Draw(t, "length")]
		switch step := rapid.SampledFrom([]string{"data", "data", "zeros", "hole", "reserved"}).Draw(t, "step"); step {
		case "data", "zeros":
			clear(part)
			if step == "data" {
				_, err := io.ReadFull(diskiotest.RandomBytes(uint64(off)), part)
				fail(t, err)
			}
			_, err := m.WriteAt(part, int64(off))
			fail(t, err)
		default:
			clear(part)
			fail(t, m.Zero(int64(off), int64(len(part)), step == "hole"))
		}
	}
	return m, want
}

func fail(t *rapid.T, err error) {
	if err != nil {
		t.Fatal(err)
	}
}

// same fails unless a content, all of which is durable, is the one wanted.
func same(t *rapid.T, what string, m *Memory, want []byte) {
	got := make([]byte, len(want))
	if _, err := m.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) || m.Unflushed() > 0 {
		t.Fatalf("%s is another, or not durable: %v", what, err)
	}
}

// TestAnyLayoutIsTreatedRight: whatever the source and the target were before.
func TestAnyLayoutIsTreatedRight(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(1, 3<<20).Draw(t, "size")
		src, want := layout(t, size)
		dst, before := layout(t, size)
		fail(t, src.Flush())
		sum, err := diskio.Sum(t.Context(), diskio.NewPacer(), src, diskio.SumSpec{})
		if sha := sha256.Sum256(want); err != nil || !bytes.Equal(sum.Sum, sha[:]) {
			t.Fatalf("wrong SHA-256: %v", err)
		}
		from, to := rapid.IntRange(0, size).Draw(t, "from"), rapid.IntRange(0, size).Draw(t, "to")
		n := rapid.IntRange(0, size-max(from, to)).Draw(t, "bytes")
		spec := diskio.PlaceSpec{Dst: dst, Src: src, DstOff: int64(to), SrcOff: int64(from), Len: int64(n), DetectZeros: rapid.Bool().Draw(t, "detect zeros")}
		if rapid.Bool().Draw(t, "in order") {
			spec.Hash = sha256.New()
		}
		_, err = diskio.Place(t.Context(), diskio.NewPacer(), spec)
		fail(t, err)
		copy(before[to:], want[from:from+n])
		same(t, "a part", dst, before)
		_, err = diskio.Copy(t.Context(), diskio.NewPacer(), diskio.CopySpec{Dst: dst, Src: src, Sparse: rapid.Bool().Draw(t, "sparse")})
		fail(t, err)
		same(t, "a copy", dst, want)
		_, err = diskio.Trim(t.Context(), diskio.NewPacer(), dst, diskio.Checkpoints{})
		fail(t, err)
		same(t, "what was trimmed", dst, want)
		for i, c := range dst.clusters {
			if zero(c) {
				t.Fatalf("cluster %d has storage for zeros after a trim", i)
			}
		}
	})
}
