package wipe

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"storaged/internal/diskio"
	"storaged/internal/diskio/diskiotest"
)

func TestWipeGoesOnWhereAnotherWasKilled(t *testing.T) {
	const size = 16*mib + 100
	for _, c := range []struct {
		algorithm string
		verify    bool
		limit     int64 // of the checkpoint at which it is killed, of all rounds
		again     int64 // at which the next one must not begin later
	}{
		{Zero, true, mib, 6 * size},
		{Random, false, mib, 6 * size},
		{Random, true, mib, 0}, // nobody knows what to compare with
		{DoD, true, 2*size + mib, 2 * size},
		{BSI, false, 4*size + mib, 9 * size},
	} {
		t.Run(c.algorithm, func(t *testing.T) {
			f := create(t, t.TempDir(), "f")
			writeCanaries(t, f, size)
			spec := Spec{Algorithm: c.algorithm, Verify: c.verify, Order: Order(c.algorithm)}
			p := diskio.NewPacer()
			first := diskiotest.CrashAt(t, c.limit, p, func() int64 { return p.Counts().Done })
			spec.Checkpoints = diskio.Checkpoints{Every: time.Nanosecond, Save: first.Save}
			if _, err := Run(first.Context, p, diskio.FileContent(f), spec); !errors.Is(err, diskiotest.ErrCrash) {
				t.Fatalf("not interrupted: %v", err)
			}
			kept := first.Kept()
			spec.Checkpoints = diskio.Checkpoints{From: kept}
			p = diskio.NewPacer()
			did, err := Run(context.Background(), p, diskio.FileContent(f), spec)
			must(t, err)
			if n := canaries(t, f.Name()); n > 0 {
				t.Errorf("%d canaries are left", n)
			}
			if did.From != min(kept, c.again) || did.Verified != (c.verify || algorithms[c.algorithm].verify) {
				t.Errorf("interrupted at %d: %+v", kept, did)
			}
			passes := int64(len(algorithms[c.algorithm].passes))
			if n := p.Counts(); n.Written > passes*size-did.From+4096 || n.Durable != n.Total || n.Work != n.WorkAll {
				t.Errorf("began at %d, and yet: %+v", did.From, n)
			}
		})
	}
}

func TestWipeRefusesAnOrderThatIsNone(t *testing.T) {
	f := create(t, t.TempDir(), "f")
	must(t, f.Truncate(mib))
	good := Order(Gutmann)
	swapped := slices.Clone(good)
	swapped[0], swapped[1] = 1, 0
	for _, order := range [][]int{{}, {0}, good[:34], swapped, slices.Repeat([]int{0}, 35), slices.Repeat([]int{-1}, 35)} {
		if _, err := Run(context.Background(), diskio.NewPacer(), diskio.FileContent(f), Spec{Algorithm: Gutmann, Order: order}); err == nil {
			t.Errorf("%v passed", order)
		}
	}
}
