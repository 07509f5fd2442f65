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
	want := []string{".SH ENVIRONMENT", "STORAGED_STATE_DIR\nas --state-dir DIR", ".SH FILES", ".SH SEE ALSO\nstoraged.toml(5),\nstoragedctl(8)"}
	if c := daemon.DefaultConfig(); c.Group != "" { // the system's, which the page is about
		want = append(want, c.File, c.StateDir, c.RuntimeDir)
	}
	for _, w := range want {
		if !strings.Contains(page, w) {
			t.Errorf("%q is missing", w)
		}
	}
}

// The manual of the settings has each with what it is by default and when it holds.
func TestManualOfSettings(t *testing.T) {
	page := strings.ReplaceAll(says(t, "storaged", "__man", "storaged.toml"), `\-`, "-")
	for _, w := range []string{
		".TH STORAGED.TOML 5", ".SS [[notify]]\n",
		".SS [limits]\nHow much is done at once.",
		".TP\n.B running\nHelpers at once; short jobs have as many places of their own.\n.br\nIt is a whole number from 1 to 10000. Default: 64. A reload takes it.\n.br\nExample: running = 32\n",
		".TP\n.B socket\n", `Default: "/run/storaged/storaged.sock". It holds from the next start on.`,
		".TP\n.B listen\n", "It is true or false. Default: true. It holds from the next start on.",
	} {
		if !strings.Contains(page, w) {
			t.Errorf("%q is missing", w)
		}
	}
	if out, err := exec.Command(filepath.Join(bin, "storaged"), "__man", "storaged.ini").Output(); err == nil || len(out) > 0 {
		t.Errorf("a page that there is not: %v, %s", err, out)
	}
}

// A manual is as wide as the window of who reads it, and no heading stands for nothing. Only a
// word that is long by itself stands out.
func TestManualsAreFilled(t *testing.T) {
	groff := testenv.Tool(t, "groff")
	const width = 80
	for program, line := range map[string][]string{
		"storaged(8)": {"storaged"}, "storaged.toml(5)": {"storaged", "storaged.toml"}, "storagedctl(8)": {"storagedctl"}, "storage-helper(8)": {"storage-helper"},
	} {
		cmd := exec.Command(groff, "-man", "-Tascii", "-ww", "-P-cbou", fmt.Sprintf("-rLL=%dn", width-2))
		var errs strings.Builder
		cmd.Stdin, cmd.Stderr = strings.NewReader(says(t, line[0], append([]string{"__man"}, line[1:]...)...)), &errs
		page, err := cmd.Output()
		if err != nil || errs.Len() > 0 {
			t.Errorf("%s: %v: %s", program, err, errs.String())
		}
		heading := ""
		for l := range strings.Lines(string(page)) {
			l = strings.TrimRight(l, "\n")
			if len(l) > width && len(strings.Fields(l)) > 2 {
				t.Errorf("%s has a line of %d columns: %s", program, len(l), l)
			}
			isHeading := l != "" && l[0] != ' '
			if isHeading && heading != "" {
				t.Errorf("%s has nothing under %s", program, heading)
			}
			if l != "" {
				heading = ""
			}
			if isHeading && !strings.Contains(l, "(8)") && !strings.Contains(l, "(5)") {
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
