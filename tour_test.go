package storaged_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// tourStep is a command of the tour in README.md, and the line that it says is
// printed instead of success.
type tourStep struct{ command, failure string }

// tourSteps gives the indented lines of the tour.
func tourSteps(t *testing.T) []tourStep {
	t.Helper()
	b, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, tour, _ := strings.Cut(string(b), "\n## A tour")
	tour, _, _ = strings.Cut(tour, "\n## ")
	var steps []tourStep
	for line := range strings.Lines(tour) {
		command, ok := strings.CutPrefix(strings.TrimRight(line, "\n"), "    ")
		switch said, isOutput := strings.CutPrefix(command, "# "); {
		case !ok:
		case isOutput:
			steps[len(steps)-1].failure = said
		default:
			steps = append(steps, tourStep{command: command})
		}
	}
	return steps
}

// Sizes and rates of the tour, made smaller: a second of each job will do.
var tourSmaller = strings.NewReplacer("2G", "64M", "200M", "8M", "50M", "2M")

// tourScript makes a script of the tour that stops at the first line that does
// not do what the tour says. Where it says Ctrl-C, that is pressed.
func tourScript(steps []tourStep) string {
	var b strings.Builder
	b.WriteString("trap 'kill -9 $(jobs -p) 2>/dev/null' EXIT\ntrap 'exit 1' TERM\n")
	for _, s := range steps {
		command, want := tourSmaller.Replace(s.command), "0"
		switch {
		case strings.HasPrefix(command, "go build "):
			continue // the test has built them
		case strings.Contains(command, "# Ctrl-C"):
			command, want = "timeout --signal=INT --preserve-status 1 "+command, "130"
		case s.failure != "":
			want = "4"
		}
		fmt.Fprintf(&b, "cat <<'END'\n$ %s\nEND\n%s\nrc=$?; [ $rc = %s ] || { echo \"exit code $rc, not %s\"; bin/storagedctl job show $job; exit 1; }\n", s.command, command, want, want)
	}
	b.WriteString("wait\nexit 0\n") // for the daemon
	return b.String()
}

// tourPatience bounds the tour: it takes seconds.
const tourPatience = 2 * time.Minute

// TestTourOfTheReadme runs what README.md tells people to run next, on a
// private daemon.
func TestTourOfTheReadme(t *testing.T) {
	home := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", filepath.Join(home, "bin")+"/", "./cmd/...").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	steps := tourSteps(t)
	ctx, cancel := context.WithTimeout(t.Context(), tourPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", tourScript(steps))
	cmd.Dir, cmd.Cancel = home, func() error { return cmd.Process.Signal(syscall.SIGTERM) } // its trap ends the daemon
	cmd.WaitDelay = time.Second                                                             // for a helper that has its output
	cmd.Env = []string{
		"HOME=" + home, "PATH=" + os.Getenv("PATH"), "TMPDIR=" + home,
	}
	b, err := cmd.CombinedOutput()
	out := string(b)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, s := range steps {
		if s.failure == "" {
			continue
		}
		said := regexp.MustCompile(`\bjob \d+ `).ReplaceAllString(strings.TrimSuffix(s.failure, "…)"), "job N ")
		if !strings.Contains(regexp.MustCompile(`\bjob \d+ `).ReplaceAllString(out, "job N "), said) {
			t.Errorf("%s: it does not say %q:\n%s", s.command, said, out)
		}
	}
	if left, err := os.ReadDir(home); err != nil || len(left) != 1 { // the programs
		t.Errorf("the tour leaves behind %v (%v)", left, err)
	}
}
