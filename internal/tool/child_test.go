package tool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"storaged/internal/testenv"
)

func TestAProgramGetsNothingButWhatIsListed(t *testing.T) {
	t.Setenv("SECRET", "x")
	extra, err := os.Open(os.DevNull)
	must(t, err)
	defer extra.Close()
	zero, err := os.Open("/dev/zero")
	must(t, err)
	defer zero.Close()
	out, err := Command{
		Program: play(t, "plain"), Options: []string{"-a"}, Operands: []string{"-b"}, Files: []*os.File{zero}, Lock: extra, Output: 4096,
	}.Run(t.Context())
	must(t, err)
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if want := fmt.Sprint([]string{"-a", "--", "-b"}, environment); lines[0] != want {
		t.Errorf("%s, want %s", lines[0], want)
	}
	var kinds []string
	for _, l := range lines[1:] {
		kind, _, _ := strings.Cut(l, ":[")
		kinds = append(kinds, kind)
	}
	if got, want := strings.Join(kinds, " "), "0=/dev/null 1=pipe 2=pipe 3=/dev/zero 4=pipe 5=/dev/null"; got != want {
		t.Errorf("descriptors %s, want %s", got, want)
	}
}

func TestHowAProgramEnded(t *testing.T) {
	for _, c := range []struct {
		command Command
		want    string
	}{
		{Command{Program: play(t, "said")}, "failed (exit 3): one; two\\x1b[31m"},
		{Command{Program: Program{Name: "sha256sum"}, Operands: []string{"/dev/zero"}, Limits: Limits{CPU: time.Second}}, "was ended by its limit of 1s of processor time"},
		{Command{Program: play(t, "floods")}, "it says more than 4096 bytes"},
		{Command{Program: Program{Name: "dd"}, Options: []string{"if=/dev/zero", "of=" + t.TempDir() + "/f"}, Limits: Limits{FileSize: 1 << 20}}, "1048576 bytes in a file"},
	} {
		c.command.Output = 4096
		_, err := c.command.Run(t.Context())
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.command.Name, err, c.want)
		}
	}
}

func TestAProgramThatIsMissingIsNamed(t *testing.T) {
	_, err := Command{Program: Program{Name: "no-such-program", Debian: "deb", Fedora: "fed"}}.Run(t.Context())
	missing, ok := errors.AsType[*MissingError](err)
	if !ok || !strings.Contains(missing.Hint(), "deb") || !strings.Contains(missing.Hint(), "fed") {
		t.Errorf("%v", err)
	}
}

func TestACancelKillsAProgramWithAllThatItHasStarted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ch, err := Command{Program: play(t, "deaf")}.start(nil)
	must(t, err)
	pid := pidfd(t, ch.cmd.Process.Pid)
	ch.Kill()
	over(t, pid)
	cancel()
	if _, err := (Command{Program: play(t, "deaf")}).Run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	out, err := Command{Program: play(t, "leaves"), Output: 100}.Run(t.Context())
	must(t, err)
	var left int
	fmt.Sscan(string(out), &left)
	if _, err := os.Stat(fmt.Sprintf("/proc/%d/exe", left)); left == 0 || err == nil {
		t.Errorf("process %d lives on: %v", left, err)
	}
}

func TestAChildDiesWithTheProcessThatStartedIt(t *testing.T) {
	self, err := os.Executable()
	must(t, err)
	cmd := exec.Command(self, t.TempDir())
	cmd.Args[0] = "parent"
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	var child int
	_, err = fmt.Fscan(out, &child)
	must(t, err)
	watched := pidfd(t, child)
	must(t, cmd.Process.Kill())
	cmd.Wait()
	over(t, watched)
}

func TestALimitOfAddressSpaceIsNamed(t *testing.T) {
	testenv.Tool(t, StorageDaemon.Name)
	_, err := Command{Program: StorageDaemon, Options: []string{"--blockdev", "null-co,node-name=a,size=1"}, Limits: Limits{AddressSpace: 60 << 20}, Output: 100}.Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "its limit of 62914560 bytes of address space") {
		t.Errorf("%v", err)
	}
}
