package virtrpc_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"storaged/internal/polkit"
	"storaged/internal/record"
	"storaged/internal/testenv"
	"storaged/internal/virtrpc/virtrpctest"
	"storaged/internal/virtrpc/wire"
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
		"info 1":           {" s)\n"}, // of what has ended nothing is left
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

// Who is let in by polkit sees all jobs, by the example too, and does to those of others
// what its rules allow.
func TestPolkitsRulesProtectJobsOfOthers(t *testing.T) {
	bus, _ := testenv.Polkit(t, `polkit.addRule(function(action, subject) {
		return action.id == "org.storaged.job.control" ? polkit.Result.NO : polkit.Result.YES;
	});`, policies...)
	h := newJobHost(t)
	begun := h.wipe("a")
	socket, _ := h.Ask(polkit.On(bus))
	uid := uidOf(t, "daemon")
	client, err := os.Open(example)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	list := exec.CommandContext(t.Context(), testenv.Tool(t, "/usr/bin/python3"), "-", socket, "list", "live")
	list.Stdin, list.Dir = client, "/" // which it could not open there
	list.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	if out, err := list.CombinedOutput(); err != nil || !strings.HasPrefix(string(out), fmt.Sprintf("%d %s volume.wipe ", begun.Number, begun.ID)) {
		t.Errorf("%v\n%s", err, out)
	}
	c := virtrpctest.DialAs(t, socket, uid)
	c.Do(wire.AuthList, nil, nil)
	c.Do(wire.AuthPolkit, nil, nil)
	c.Do(wire.ConnectOpen, &wire.OpenArgs{}, nil)
	h.refusal(c.CallJob(wire.JobAbort, &wire.JobFlags{Job: ofVolume("a")}, nil), wire.AccessDenied, record.Denied, "org.storaged.job.control")
}
