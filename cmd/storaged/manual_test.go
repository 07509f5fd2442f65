package main_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"storaged/internal/daemon"
)

// says runs a program of ours and gives what it prints.
func says(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := exec.Command(filepath.Join(bin, program), args...).Output()
	if err != nil {
		t.Fatalf("%s %q: %v", program, args, err)
	}
	return string(out)
}

func TestManualNamesSettingsAndFiles(t *testing.T) {
	page := strings.ReplaceAll(says(t, "storaged", "__man"), `\-`, "-")
	want := []string{".SH ENVIRONMENT", "STORAGED_STATE_DIR\nas --state-dir DIR", ".SH FILES", ".SH SEE ALSO\nstoragedctl(8)"}
	if c := daemon.DefaultConfig(); c.Group != "" { // the system's, which the page is about
		want = append(want, c.File, c.StateDir, c.RuntimeDir)
	}
	for _, w := range want {
		if !strings.Contains(page, w) {
			t.Errorf("%q is missing", w)
		}
	}
}

func TestHelpNamesEveryAlgorithmOfAWipe(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	help := says(t, "storagedctl", "vol", "wipe", "--help")
	types := must(h.client.Capabilities(h.ctx()))(t)
	for _, p := range types {
		for _, a := range p.Algorithms {
			if !strings.Contains(help, "  "+a+" ") && !strings.Contains(help, "  "+a+",") && !strings.Contains(help, ", "+a+" ") {
				t.Errorf("%s is missing", a)
			}
		}
	}
}
