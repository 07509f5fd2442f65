package tool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"storaged/internal/confine"
	"storaged/internal/testenv"
)

// device opens a device for the time of a test.
func device(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

func TestAProgramGetsNothingButWhatIsListed(t *testing.T) {
	t.Setenv("SECRET", "x")
	leak, err := unix.Open("/dev/full", unix.O_RDONLY, 0) // it would be inherited
	must(t, err)
	defer unix.Close(leak)
	out := &output{most: 4096}
	ch, err := Command{
		Program: play(t, "plain"), Options: []string{"-a"}, Operands: []string{"-b"},
		Files: []*os.File{device(t, "/dev/zero")}, Lock: device(t, os.DevNull),
	}.start(out)
	must(t, err)
	if !ch.until("ready") {
		t.Fatalf("it has ended: %v", ch.err)
	}
	dir := fmt.Sprintf("/proc/%d/fd", ch.cmd.Process.Pid)
	names, err := os.ReadDir(dir)
	must(t, err)
	var have []string
	for _, n := range names {
		to, err := os.Readlink(filepath.Join(dir, n.Name()))
		must(t, err)
		if kind, _, _ := strings.Cut(to, ":["); kind != "anon_inode" && !strings.HasPrefix(to, "anon_inode:") { // the runtime's own
			have = append(have, n.Name()+"="+kind)
		}
	}
	ch.Kill()
	if got, want := strings.Join(have, " "), "0=/dev/null 1=pipe 2=pipe 3=/dev/zero 4=/dev/null"; got != want {
		t.Errorf("descriptors %s, want %s", got, want)
	}
	if got, want := strings.TrimSpace(string(out.kept)), fmt.Sprint([]string{"-a", "--", "-b"}, environment); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// A program of QEMU opens nothing before it is bounded, and its secrets are its alone.
func TestAProgramOfQEMUWaitsForItsLimitsAndGetsItsSecrets(t *testing.T) {
	p := play(t, "gated")
	p.Objects = true
	long := strings.Repeat("k", 64<<10)
	out, err := Command{
		Program: p, Verb: "verb", Options: []string{"-a"}, Secrets: [][]byte{[]byte("open sesame"), []byte(long)},
		Limits: Limits{FileSize: 4711, Files: 100}, Output: 1 << 20,
	}.Run(t.Context())
	must(t, err)
	want := fmt.Sprintf("%q <nil>\n%q <nil>\n%q <nil>\n0 0 <nil>\n4711 4711 <nil>\n100 100 <nil>\n[verb --object ", "", "open sesame", long)
	said, seen := string(out[:min(len(want), len(out))]), string(out[min(len(want), len(out)):])
	if said != want {
		t.Errorf("it says %.400q", out)
	}
	if !strings.HasSuffix(strings.TrimSpace(seen), fmt.Sprintf("-a] %v", environment)) || strings.Contains(seen, "sesame") || strings.Contains(seen, "kkk") {
		t.Errorf("others see %.400s", seen)
	}
}

func TestHowAProgramEnded(t *testing.T) {
	zeros := device(t, "/dev/zero")
	to, err := os.Create(filepath.Join(t.TempDir(), "to"))
	must(t, err)
	defer to.Close()
	for _, c := range []struct {
		command Command
		want    string
	}{
		{Command{Program: play(t, "said")}, "failed (exit 3): one; two\\x1b[31m"},
		{Command{Program: Program{Name: "sha256sum"}, Operands: []string{"/proc/self/fd/3"}, Limits: Limits{CPU: time.Second}}, "was ended by its limit of 1s of processor time"},
		{Command{Program: play(t, "floods")}, "it says more than 4096 bytes"},
		{Command{Program: Program{Name: "dd"}, Options: []string{"if=/proc/self/fd/3", "of=/proc/self/fd/4"}, Limits: Limits{FileSize: 1 << 20}}, "1048576 bytes in a file"},
		{Command{Program: Program{Name: "dd"}, Options: []string{"if=/etc/passwd"}}, "Permission denied"},
	} {
		c.command.Files, c.command.Policy = []*os.File{zeros, to}, confine.Policy{Read: []*os.File{zeros}, Write: []*os.File{to}}
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

func TestACancelKillsAProgram(t *testing.T) {
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
	// It may have all that it takes to begin before its limits come, and would serve then
	// without end, but for a thread that it is to have.
	_, err := Command{Program: StorageDaemon, Options: []string{"--object", "iothread,id=more"}, Limits: Limits{AddressSpace: 60 << 20}, Output: 100}.Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "its limit of 62914560 bytes of address space") {
		t.Errorf("%v", err)
	}
}

// An error says what is wrong, and not how the program is used.
func TestErrorOfAProgramIsShort(t *testing.T) {
	testenv.Tool(t, MkfsXFS.Name)
	file := filepath.Join(t.TempDir(), "small")
	must(t, os.WriteFile(file, make([]byte, 1<<20), 0o600))
	_, err := Command{Program: MkfsXFS, Options: []string{"-q", "-f"}, Operands: []string{file}, Output: 4096}.Administer(t.Context())
	if err == nil || !strings.Contains(err.Error(), "too small") || strings.Contains(strings.ToLower(err.Error()), "usage") || len(err.Error()) > 300 {
		t.Errorf("%v", err)
	}
}

func TestWhatAProgramSaidIsBounded(t *testing.T) {
	lines := func(from, to int) (out string) {
		for i := from; i < to; i++ {
			out += fmt.Sprintf("line %d\n", i)
		}
		return out
	}
	for said, want := range map[string]string{
		"one\ntwo\n":                             "one; two",
		"bad option\nUsage: x [-f]\n\t-f force":  "bad option",
		"usage: x is all it says":                "usage: x is all it says",
		lines(0, 5000):                           "line 0; line 1; …; line 4998; line 4999",
		strings.Repeat("x", 5000):                strings.Repeat("x", maxShown) + "…",
		"first\n" + strings.Repeat("y\n", 8<<10): "first; y; …; y; y",
	} {
		var s saying
		for _, part := range strings.SplitAfter(said, "\n") {
			_, err := s.Write([]byte(part))
			must(t, err)
		}
		if got := brief(s.String()); got != want {
			t.Errorf("%.60q is %q, want %q", said, got, want)
		}
	}
}
