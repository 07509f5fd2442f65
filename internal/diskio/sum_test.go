package diskio

import (
	"bytes"
	"context"
	"encoding/binary"
	"hash/crc32"
	"io"
	"os"
	"testing"
)

// sumOf reads all of f.
func sumOf(t testing.TB, f *os.File, crc bool) []byte {
	t.Helper()
	if !crc {
		sum := digestOf(t, f, sizeOf(t, f))
		return sum[:]
	}
	h := crc32.New(castagnoli)
	_, err := io.Copy(h, io.NewSectionReader(f, 0, sizeOf(t, f)))
	must(t, err)
	return binary.BigEndian.AppendUint32(nil, h.Sum32())
}

func TestSumOfEverySource(t *testing.T) {
	onEachFS(t, func(t *testing.T, dir string) {
		for _, s := range sources {
			t.Run(s.name, func(t *testing.T) {
				f := create(t, dir, s.name)
				t.Cleanup(func() { os.Remove(f.Name()) })
				s.make(t, f)
				for _, crc := range []bool{false, true} {
					p := NewPacer()
					stats, err := Sum(context.Background(), p, file{f}, SumSpec{CRC32C: crc})
					must(t, err)
					if !bytes.Equal(stats.Sum, sumOf(t, f, crc)) || stats.Bytes != sizeOf(t, f) {
						t.Errorf("wrong checksum, CRC-32C %t: %+v", crc, stats)
					}
					if c := p.Counts(); c.Durable != c.Total || c.Work != c.WorkAll || c.Read != c.Total-stats.Holes {
						t.Errorf("counts: %+v", c)
					}
				}
			})
		}
	})
}

func TestSumDoesNotReadHoles(t *testing.T) {
	f := create(t, t.TempDir(), "f")
	writeRandom(t, f, 100*mib, 5000)
	p := NewPacer()
	_, err := Sum(context.Background(), p, file{f}, SumSpec{})
	must(t, err)
	if c := p.Counts(); c.Read > 8192 {
		t.Errorf("read %d bytes for 5000 of data", c.Read)
	}
}

// Hashing what this file is long would take hours.
func TestCRCLeapsOverHoles(t *testing.T) {
	f := create(t, t.TempDir(), "f")
	must(t, f.Truncate(4<<40))
	writeRandom(t, f, 1<<40, 4096)
	got, err := Sum(context.Background(), NewPacer(), file{f}, SumSpec{CRC32C: true})
	must(t, err)
	data := make([]byte, 4096)
	_, err = f.ReadAt(data, 1<<40)
	must(t, err)
	want := crcJoin(crcJoin(crcOfZeros(1<<40), crcOf(data), 4096), crcOfZeros(3<<40-4096), 3<<40-4096)
	if binary.BigEndian.Uint32(got.Sum) != want || got.Holes < 4<<40-8192 {
		t.Errorf("%x, want %x: %+v", got.Sum, want, got)
	}
}
