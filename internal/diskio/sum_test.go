package diskio

import (
	"context"
	"os"
	"testing"
)

func TestSumOfEverySource(t *testing.T) {
	onEachFS(t, func(t *testing.T, dir string) {
		for _, s := range sources {
			t.Run(s.name, func(t *testing.T) {
				f := create(t, dir, s.name)
				t.Cleanup(func() { os.Remove(f.Name()) })
				s.make(t, f)
				want := digest(t, f)
				p := NewPacer(nil)
				stats, err := Sum(context.Background(), p, f)
				must(t, err)
				if stats.SHA256 != want || stats.Bytes != sizeOf(t, f) {
					t.Errorf("wrong checksum: %+v", stats)
				}
				if c := p.Counts(); c.Durable != c.Total || c.Read != c.Total-stats.Holes {
					t.Errorf("counts: %+v", c)
				}
			})
		}
	})
}

func TestSumDoesNotReadHoles(t *testing.T) {
	f := create(t, t.TempDir(), "f")
	writeRandom(t, f, 100*mib, 5000)
	p := NewPacer(nil)
	_, err := Sum(context.Background(), p, f)
	must(t, err)
	if c := p.Counts(); c.Read > 8192 {
		t.Errorf("read %d bytes for 5000 of data", c.Read)
	}
}
