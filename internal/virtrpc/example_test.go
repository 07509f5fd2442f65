package virtrpc_test

import (
	"bufio"
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"storaged/internal/testenv"
	"storaged/internal/virtrpc/virtrpctest"
)

// example is the client that the manual shows.
const example = "../../docs/examples/jobs.py"

// python runs the example, to its end.
func (h *jobHost) python(args ...string) (out string, err error) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), virtrpctest.Patience)
	defer cancel()
	b, err := exec.CommandContext(ctx, testenv.Tool(h.t, "/usr/bin/python3"), append([]string{example, h.Socket}, args...)...).CombinedOutput()
	return string(b), err
}

// The example of the manual shows jobs, watches one, and aborts it.
func TestExampleOfTheManualWorks(t *testing.T) {
	h := newJobHost(t)
	begun := h.wipe("a")
	line := fmt.Sprintf("%d %s volume.wipe p/a of root: running (", begun.Number, begun.ID)
	for command, want := range map[string][]string{
		"list live":        {line, "of 67108864 bytes after"},
		"list ended":       {" pool.start p of ", " volume.create p/a of root: succeeded (completed"},
		"info p/a":         {line},
		"info p":           {"no job\n"},
		"info " + begun.ID: {line},
		"stats p/a":        {"type: bounded\n", "\nid: " + begun.ID, "\nprogress: ", "\ncancelable: True\n", "\nlimit: 1048576\n"},
	} {
		out, err := h.python(strings.Fields(command)...)
		for _, w := range want {
			if err != nil || !strings.Contains(out, w) {
				t.Errorf("%s: %v\n%s\nnot %q", command, err, out, w)
			}
		}
	}
	for command, want := range map[string]string{"info 4711": `error: operation failed: there is no job "4711"`, "abort p/b": "error: Requested operation is not valid: no job is active on p/b", "dance": "jobs.py SOCKET list"} {
		if out, err := h.python(strings.Fields(command)...); err == nil || !strings.Contains(out, want) {
			t.Errorf("%s: %v\n%s\nnot %q", command, err, out, want)
		}
	}
	watch := exec.CommandContext(t.Context(), testenv.Tool(t, "/usr/bin/python3"), example, h.Socket, "watch", "p/a")
	watched, err := watch.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := watch.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(watched)
	for lines.Scan() && !strings.Contains(lines.Text(), "progress") {
		// until it is heard
	}
	if out, err := h.python("abort", "p/a"); err != nil || !strings.Contains(out, " volume.wipe p/a of root: ") {
		t.Errorf("%v\n%s", err, out)
	}
	last := ""
	for lines.Scan() {
		last = lines.Text()
	}
	if err := watch.Wait(); err != nil || !strings.HasPrefix(last, "state,ended ") || !strings.Contains(last, ": canceled (cancelled, ") {
		t.Errorf("%v, the last line is %q", err, last)
	}
}
