package diskio

import (
	"context"
	"testing"
)

func TestResize(t *testing.T) {
	onEachFS(t, func(t *testing.T, dir string) {
		f := create(t, dir, "f")
		writeRandom(t, f, 0, mib+17)
		before := digest(t, f)
		resize := func(spec ResizeSpec) AllocateStats {
			t.Helper()
			p := NewPacer()
			stats, err := Resize(context.Background(), p, f, spec)
			must(t, err)
			if sizeOf(t, f) != spec.Capacity {
				t.Errorf("size is %d after %+v", sizeOf(t, f), spec)
			}
			if c := p.Counts(); c.Durable != c.Total {
				t.Errorf("counts: %+v", c)
			}
			return stats
		}
		if stats := resize(ResizeSpec{Capacity: 8 * mib}); stats.Method != MethodSparse || stats.Allocated > 2*mib {
			t.Errorf("growing allocated: %+v", stats)
		}
		if stats := resize(ResizeSpec{Capacity: 20*mib + 1, Allocate: true}); !stats.Kept || stats.Allocated < 13*mib {
			t.Errorf("promise not kept: %+v", stats)
		}
		resize(ResizeSpec{Capacity: mib + 17, Shrink: true})
		if digest(t, f) != before {
			t.Error("content has changed")
		}
		if _, err := Resize(context.Background(), NewPacer(), f, ResizeSpec{Capacity: mib}); err == nil {
			t.Error("shrinking without being asked was accepted")
		}
	})
}
