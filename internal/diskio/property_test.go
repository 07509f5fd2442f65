package diskio

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"hash/crc32"
	"testing"

	"pgregory.net/rapid"
)

// TestAnyLayoutIsTreatedRight makes a file of any layout, copies and sums
// it; the target may be new, larger, used or preallocated.
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
		_, err := Copy(context.Background(), p, CopySpec{Dst: file{dst}, Src: file{src}, Size: int64(len(want) + larger)})
		if err != nil {
			t.Fatal(err)
		}
		same(t, "copy", dst, append(bytes.Clone(want), make([]byte, larger)...))
		same(t, "source", src, want)
		if c := p.Counts(); c.Work != c.WorkAll || c.Durable != c.Total {
			t.Fatalf("counts: %+v", c)
		}
		sum, err := Sum(context.Background(), NewPacer(), file{src}, SumSpec{})
		if sha := sha256.Sum256(want); err != nil || !bytes.Equal(sum.Sum, sha[:]) {
			t.Fatalf("wrong SHA-256, error %v", err)
		}
		sum, err = Sum(context.Background(), NewPacer(), file{src}, SumSpec{CRC32C: true})
		if err != nil || binary.BigEndian.Uint32(sum.Sum) != crc32.Checksum(want, castagnoli) {
			t.Fatalf("wrong CRC-32C, error %v", err)
		}
	})
}
