package storaged_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestQuickstart runs what README.md tells people to run first.
func TestQuickstart(t *testing.T) {
	tmp := t.TempDir()
	cmd := exec.Command("scripts/quickstart")
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if before, _, _ := strings.Cut(string(out), "# The log of the daemon"); strings.Contains(before, "[WARN]") {
		t.Errorf("what the daemon logs is among what the commands say:\n%s", before)
	}
	for _, want := range []string{"The two are equal.", "is busy: written by job", "was canceled by", "incomplete (job", "Stopped."} {
		if !strings.Contains(string(out), want) {
			t.Errorf("it does not show %q:\n%s", want, out)
		}
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}
