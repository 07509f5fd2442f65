package wipe

import (
	"context"
	"testing"

	"pgregory.net/rapid"

	"storaged/internal/diskio"
	"storaged/internal/diskio/diskiotest"
	"storaged/internal/testenv"
)

// TestAnyLayoutIsWiped makes a file of any layout, and wipes it.
func TestAnyLayoutIsWiped(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		f := diskiotest.Scratch(t, dir)
		want := diskiotest.Layout(t, f)
		if _, err := Run(context.Background(), diskio.NewPacer(), diskio.FileContent(f), Spec{Verify: true}); err != nil {
			t.Fatal(err)
		}
		diskiotest.Same(t, "wiped", f, make([]byte, len(want)))
	})
}

// TestHoleCostsNothingHoweverLong counts steps, not seconds: there are a few per
// extent, and none per byte of a hole.
func TestHoleCostsNothingHoweverLong(t *testing.T) {
	f := diskiotest.HugeHole(t, testenv.Mount(t, "xfs"), "f")
	ctx := &diskiotest.Asked{Context: t.Context()}
	_, err := Run(ctx, diskio.NewPacer(), diskio.FileContent(f), Spec{Verify: true})
	must(t, err)
	if n := ctx.Times(); n > 100 {
		t.Errorf("%d steps for three extents", n)
	}
}
