package wipe_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"storaged/internal/diskio"
	"storaged/internal/diskio/contenttest"
	"storaged/internal/diskio/diskiotest"
	"storaged/internal/wipe"
)

// TestImageIsWipedWhereItHasStorage: of the file that it lies in what cannot be
// reached is named, and what who opened the image knows.
func TestImageIsWipedWhereItHasStorage(t *testing.T) {
	c := contenttest.NewMemory(8 * diskiotest.MiB)
	_, err := c.WriteAt(bytes.Repeat([]byte("old"), diskiotest.MiB), 2*diskiotest.MiB)
	diskiotest.Must(t, err)
	f := diskiotest.Create(t, t.TempDir(), "image")
	known := wipe.Limit{Text: "its snapshots"}
	for _, algorithm := range []string{wipe.Zero, wipe.DoD} {
		stats, err := wipe.Run(t.Context(), diskio.NewPacer(), c, wipe.Spec{Algorithm: algorithm, Verify: true, Stored: true, File: diskio.FileContent(f), Beside: []wipe.Limit{known}})
		diskiotest.Must(t, err)
		if stats.Bytes != 3*diskiotest.MiB || stats.Holes != 5*diskiotest.MiB || !stats.Verified || !slices.Contains(stats.Limits, known) {
			t.Errorf("%s: %+v", algorithm, stats)
		}
		if slices.ContainsFunc(stats.Limits, func(l wipe.Limit) bool { return strings.Contains(l.Text, "another program") }) {
			t.Errorf("%s: the file below is not looked at: %+v", algorithm, stats.Limits)
		}
		if all, err := diskio.LayoutOf(t.Context(), c); err != nil || all.Held != 3*diskiotest.MiB {
			t.Errorf("%s: %+v is stored (%v)", algorithm, all, err)
		}
	}
}
