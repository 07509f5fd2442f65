package record

import (
	"strings"
	"testing"
)

// The file of a snapshot is told from every other name: those of volumes, and the
// temporary ones of jobs.
func TestFileOfASnapshotIsNobodyElses(t *testing.T) {
	for _, c := range []struct{ volume, snapshot string }{{"vm1.raw", "s"}, {"a@b", "c"}, {".hidden", "x.y"}, {"v", ".s"}} {
		file := SnapshotFile(c.volume, c.snapshot)
		volume, snapshot, ok := ParseSnapshot(file)
		if !ok || volume != c.volume || snapshot != c.snapshot || !Reserved(file) || CheckName(file) == nil {
			t.Errorf("%q is read as %q of %q, %t", file, snapshot, volume, ok)
		}
		if Shown(file) != c.volume+"@"+c.snapshot || Shown(c.volume) != c.volume {
			t.Errorf("%q is shown as %q", file, Shown(file))
		}
	}
	for _, name := range []string{
		"", "v", "v@s", DraftName("01993c1e-8f5e-7cc3-b0a4-5a3a1b0b9c11"), ".@s.storaged", ".v@.storaged", ".v@s", "v@s.storaged", ".v@a/b.storaged",
		".-v@s.storaged", ".v@s\x00.storaged", ".v@.x.storaged.storaged",
	} {
		if volume, snapshot, ok := ParseSnapshot(name); ok {
			t.Errorf("%q is read as %q of %q", name, snapshot, volume)
		}
	}
	for _, c := range []struct{ volume, snapshot, text string }{
		{"v", "a@b", "contains an @"}, {"v", "", "empty"}, {"v", "a/b", "slash"}, {"../v", "s", "slash"}, {strings.Repeat("v", 200), strings.Repeat("s", 50), "of 261 bytes"},
	} {
		if err := CheckSnapshot(c.volume, c.snapshot); err == nil || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%q of %q: %v", c.snapshot, c.volume, err)
		}
	}
}
