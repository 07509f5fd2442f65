package packaging_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"storaged/internal/testenv"
)

// patience bounds every wait here: far more than anything takes on a slow
// machine.
const patience = 2 * time.Minute

// machine is a Debian with systemd in a container (systemd-nspawn). It runs in
// memory and is gone with the test.
type machine struct {
	t      *testing.T
	leader string // the host's pid of its process 1
}

// base is the root of the container, to which nobody writes.
func base(t *testing.T) string {
	t.Helper()
	testenv.Tool(t, "debootstrap")
	root, err := exec.Command("./root").Output()
	if err != nil {
		t.Fatalf("cannot make a root for the container: %v\n%s", err, stderr(err))
	}
	return strings.TrimSpace(string(root))
}

// boot starts a machine that sees the directory given as /packages.
func boot(t *testing.T, packages string) *machine {
	t.Helper()
	testenv.Root(t)
	nspawn := testenv.Tool(t, "systemd-nspawn")
	testenv.Tool(t, "nsenter")
	cmd := exec.Command(nspawn, "--quiet", "--register=no", "--keep-unit", "--private-network", "--volatile=overlay",
		"--console=pipe", "--machine=storaged-test-"+strconv.Itoa(os.Getpid()), "--bind-ro="+packages+":/packages",
		"--directory", base(t), "--boot")
	cmd.Env = append(os.Environ(), "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }() // its status says nothing
	m := &machine{t: t}
	t.Cleanup(func() {
		if m.leader != "" {
			_ = exec.Command("nsenter", m.enter("systemctl", "exit")...).Run() // the kill makes up for it
		}
		select {
		case <-ended:
		case <-time.After(patience):
			cmd.Process.Kill()
			<-ended
		}
	})
	testenv.Need(t, "containers of systemd-nspawn", m.up(cmd.Process.Pid, ended))
	return m
}

// up waits until the machine has started, and reports whether it could.
func (m *machine) up(nspawn int, ended <-chan struct{}) bool {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			return false
		case <-tick.C:
		}
		if m.leader = firstOf(strconv.Itoa(nspawn)); m.leader == "" {
			continue
		}
		err := exec.Command("nsenter", m.enter("systemctl", "is-system-running", "--wait", "--quiet")...).Run()
		if err == nil {
			return true
		}
	}
}

// firstOf finds process 1 of a container among the descendants of pid.
func firstOf(pid string) string {
	children, _ := os.ReadFile(filepath.Join("/proc", pid, "task", pid, "children"))
	for child := range strings.FieldsSeq(string(children)) {
		status, _ := os.ReadFile(filepath.Join("/proc", child, "status"))
		for line := range strings.Lines(string(status)) {
			ids := strings.Fields(line)
			if len(ids) > 2 && ids[0] == "NSpid:" && ids[len(ids)-1] == "1" {
				return child
			}
		}
		if found := firstOf(child); found != "" {
			return found
		}
	}
	return ""
}

func (m *machine) enter(argv ...string) []string {
	return append([]string{"--target", m.leader, "--all", "--"}, argv...)
}

// try runs a command in the machine and gives its output.
func (m *machine) try(argv ...string) (string, error) {
	cmd := exec.Command("nsenter", m.enter(argv...)...)
	var failed bytes.Buffer
	cmd.Stderr = &failed
	out, err := cmd.Output()
	if err != nil {
		err = errors.Join(err, errors.New(failed.String()))
	}
	return strings.TrimSpace(string(out)), err
}

// run is try for a command that must succeed.
func (m *machine) run(argv ...string) string {
	m.t.Helper()
	out, err := m.try(argv...)
	if err != nil {
		journal, _ := m.try("journalctl", "--no-pager", "--lines=200", "--output=cat")
		m.t.Fatalf("%q: %v\n%s\njournal:\n%s", argv, err, out, journal)
	}
	return out
}

// sh runs a shell script in the machine.
func (m *machine) sh(script string) string {
	m.t.Helper()
	return m.run("sh", "-ec", script)
}

// ask runs storagedctl and reads the JSON that it prints.
func (m *machine) ask(answer any, argv ...string) {
	m.t.Helper()
	out := m.run(append(append([]string{"storagedctl"}, argv...), "-o", "json")...)
	if err := json.Unmarshal([]byte(out), answer); err != nil {
		m.t.Fatalf("storagedctl %q: %v\n%s", argv, err, out)
	}
}

// until polls until what is waited for has come true.
func (m *machine) until(what string, holds func() bool) {
	m.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for !holds() {
		select {
		case <-tick.C:
		case <-late:
			journal, _ := m.try("journalctl", "--no-pager", "--lines=200", "--output=cat")
			m.t.Fatalf("in %v this did not come true: %s\njournal:\n%s", patience, what, journal)
		}
	}
}

// property gives a property of the service.
func (m *machine) property(name string) string {
	m.t.Helper()
	return m.run("systemctl", "show", "--property="+name, "--value", "storaged.service")
}

func stderr(err error) string {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return string(exit.Stderr)
	}
	return ""
}
