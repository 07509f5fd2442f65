package main_test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"storaged/internal/daemon"
	"storaged/internal/testenv"
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

// A manual is as wide as the window of who reads it, and no heading stands for nothing. Only a
// word that is long by itself stands out.
func TestManualsAreFilled(t *testing.T) {
	groff := testenv.Tool(t, "groff")
	const width = 80
	for _, program := range []string{"storaged", "storagedctl", "storage-helper"} {
		cmd := exec.Command(groff, "-man", "-Tascii", "-ww", "-P-cbou", fmt.Sprintf("-rLL=%dn", width-2))
		var errs strings.Builder
		cmd.Stdin, cmd.Stderr = strings.NewReader(says(t, program, "__man")), &errs
		page, err := cmd.Output()
		if err != nil || errs.Len() > 0 {
			t.Errorf("%s(8): %v: %s", program, err, errs.String())
		}
		heading := ""
		for l := range strings.Lines(string(page)) {
			l = strings.TrimRight(l, "\n")
			if len(l) > width && len(strings.Fields(l)) > 2 {
				t.Errorf("%s(8) has a line of %d columns: %s", program, len(l), l)
			}
			isHeading := l != "" && l[0] != ' '
			if isHeading && heading != "" {
				t.Errorf("%s(8) has nothing under %s", program, heading)
			}
			if l != "" {
				heading = ""
			}
			if isHeading && !strings.Contains(l, "(8)") {
				heading = l
			}
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
