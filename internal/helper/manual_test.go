package helper

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"storaged/internal/format/formattest"
	"storaged/internal/record"
	"storaged/internal/term/ptytest"
	"storaged/internal/testenv"
)

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", filepath.Dir(helper)+":"+env.Getenv("PATH"))
			env.Setenv("GORACE", os.Getenv("GORACE"))
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits": exits,
			"noise": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(os.WriteFile(ts.MkAbs(args[0]), bytes.Repeat([]byte("storaged"), 1<<17), 0o600))
			},
			"qcow": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(os.WriteFile(ts.MkAbs(args[0]), formattest.Qcow2(), 0o600))
			},
			"rest": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte("I\xfb\x00\x00\x00\x03"), 0o600))
			},
			"zeros": func(ts *testscript.TestScript, neg bool, args []string) {
				b := ts.ReadFile(args[0])
				if zero := strings.Trim(b, "\x00") == ""; zero == neg {
					ts.Fatalf("%s: only zeros: %v", args[0], zero)
				}
			},
		},
	})
}

// exits CODE COMMAND…: runs a command that must end with this code.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	code := "0"
	if exit, ok := err.(*exec.ExitError); ok {
		code = strings.TrimPrefix(exit.String(), "exit status ")
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if code != args[0] {
		ts.Fatalf("exit code %s, want %s", code, args[0])
	}
}

// person runs a helper by hand, without a terminal.
type person struct {
	t      *testing.T
	cmd    *exec.Cmd
	stderr *bufio.Scanner
	stdout bytes.Buffer
}

// byHand starts a task and waits for its first words, from when on signals do
// what they promise.
func byHand(t *testing.T, args ...string) *person {
	t.Helper()
	testenv.Heeded(t, syscall.SIGHUP)
	p := &person{t: t, cmd: exec.Command(helper, args...)}
	p.cmd.Stdout = &p.stdout
	stderr, err := p.cmd.StderrPipe()
	must(t, err)
	p.stderr = bufio.NewScanner(stderr)
	must(t, p.cmd.Start())
	t.Cleanup(func() {
		p.cmd.Process.Kill() // may have ended
		p.cmd.Wait()
	})
	p.until(args[0])
	return p
}

// until reads lines up to one that holds the text.
func (p *person) until(text string) string {
	p.t.Helper()
	alarm := time.AfterFunc(patience, func() { p.cmd.Process.Kill() })
	defer alarm.Stop()
	var seen []string
	for p.stderr.Scan() {
		seen = append(seen, p.stderr.Text())
		if strings.Contains(p.stderr.Text(), text) {
			return p.stderr.Text()
		}
	}
	p.t.Fatalf("no line with %q; seen %q", text, seen)
	return ""
}

func (p *person) send(s syscall.Signal) {
	p.t.Helper()
	must(p.t, p.cmd.Process.Signal(s))
}

// moving asks for progress until something has been written.
func (p *person) moving() {
	p.t.Helper()
	for {
		p.send(syscall.SIGUSR1)
		if line := p.until("clone"); strings.Contains(line, " of ") && !strings.Contains(line, " 0 B of") {
			return
		}
	}
}

// ends waits for the end, which must have this code, and gives what was said
// on the way.
func (p *person) ends(code int) string {
	p.t.Helper()
	alarm := time.AfterFunc(patience, func() { p.cmd.Process.Kill() })
	defer alarm.Stop()
	var rest []string
	for p.stderr.Scan() {
		rest = append(rest, p.stderr.Text())
	}
	p.cmd.Wait() // the code says all
	if got := p.cmd.ProcessState.ExitCode(); got != code {
		p.t.Errorf("exit code %d, want %d; last words %q", got, code, rest)
	}
	return strings.Join(rest, "\n")
}

// cloneByHand starts a clone that lasts as long as the test.
func cloneByHand(t *testing.T) (*person, string) {
	t.Helper()
	pool := t.TempDir()
	noise(t, filepath.Join(pool, "a.raw"), 64*mib)
	return byHand(t, "clone", "--limit", "4M", "--source", filepath.Join(pool, "a.raw"), "--target", filepath.Join(pool, "b.raw")), pool
}

func TestByHandCancelUndoesAndSaysSo(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		t.Run(s.String(), func(t *testing.T) {
			p, pool := cloneByHand(t)
			p.moving()
			p.send(s)
			p.until(`"` + filepath.Join(pool, "b.raw") + `" is not made`)
			last := p.ends(record.ExitCanceled)
			if !strings.Contains(last, "storage-helper: error: canceled by a signal") {
				t.Errorf("last words %q", last)
			}
			onlyHas(t, pool, "a.raw")
		})
	}
}

func TestByHandReportsWhenAsked(t *testing.T) {
	p, pool := cloneByHand(t)
	p.moving()
	p.send(syscall.SIGUSR1)
	line := p.until("clone")
	for _, part := range []string{"clone", " %", " of 64.0 MiB"} {
		if !strings.Contains(line, part) {
			t.Errorf("line %q lacks %q", line, part)
		}
	}
	p.send(syscall.SIGINT)
	p.ends(record.ExitCanceled)
	onlyHas(t, pool, "a.raw")
}

func TestByHandPausesAndResumes(t *testing.T) {
	p, pool := cloneByHand(t)
	p.moving()
	p.send(syscall.SIGUSR2)
	p.until("paused")
	before := ioOf(t, p.cmd.Process.Pid)
	// Fifty answers pass the time in which something could move.
	for range 50 {
		p.send(syscall.SIGUSR1)
		p.until("paused")
	}
	if after := ioOf(t, p.cmd.Process.Pid); after.read-before.read > 64<<10 || after.written-before.written > 64<<10 {
		t.Errorf("paused, and yet %+v became %+v", before, after)
	}
	p.send(syscall.SIGUSR2)
	p.until("resumed")
	p.send(syscall.SIGINT)
	p.ends(record.ExitCanceled)
	onlyHas(t, pool, "a.raw")
}

func TestByHandGoesOnWhenNobodyReadsItsWords(t *testing.T) {
	pool := t.TempDir()
	content := noise(t, filepath.Join(pool, "a.raw"), 4*mib)
	cmd := exec.Command(helper, "clone", "--limit", "8M", "--source", filepath.Join(pool, "a.raw"), "--target", filepath.Join(pool, "b.raw"))
	r, w, err := os.Pipe()
	must(t, err)
	cmd.Stderr = w
	must(t, cmd.Start())
	w.Close()
	bufio.NewReader(r).ReadString('\n') // the first words
	r.Close()
	must(t, cmd.Process.Signal(syscall.SIGUSR1)) // whose answer meets no reader
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	sameContent(t, filepath.Join(pool, "b.raw"), content)
}

func TestByHandOnATerminal(t *testing.T) {
	pool := t.TempDir()
	target := filepath.Join(pool, "a.raw")
	noise(t, target, 8*mib)
	for name, c := range map[string]struct {
		answer string
		code   int
		wiped  bool
	}{
		"no":      {"n\n", record.ExitCanceled, false},
		"nothing": {"\n", record.ExitCanceled, false},
		"yes":     {"y\n", record.ExitDone, true},
	} {
		t.Run(name, func(t *testing.T) {
			want := noise(t, target, 8*mib)
			if c.wiped {
				want = make([]byte, 8*mib)
			}
			tty := ptytest.Open(t, 100)
			cmd := exec.Command(helper, "wipe", "--target", target, "--limit", "8M")
			cmd.Env = append(os.Environ(), "TERM=xterm", "NO_COLOR=1")
			cmd.Stdin, cmd.Stdout, cmd.Stderr = tty.Slave, tty.Slave, tty.Slave
			must(t, cmd.Start())
			tty.Expect("8.00 MiB) will be overwritten. Go on? [y/N]")
			tty.Type(c.answer)
			if c.wiped {
				tty.Expect("[=")
				tty.Expect("wiped")
			}
			cmd.Wait() // the code says all
			if code := cmd.ProcessState.ExitCode(); code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			sameContent(t, target, want)
		})
	}
}

func TestByHandResultAsJSON(t *testing.T) {
	pool := t.TempDir()
	out, err := exec.Command(helper, "allocate", "--target", filepath.Join(pool, "a.raw"), "--capacity", "1M", "-o", "json").Output()
	must(t, err)
	var got ending
	must(t, json.Unmarshal(out, &got))
	if got.State != record.Succeeded || got.Result.Path != filepath.Join(pool, "a.raw") || got.Result.Capacity != mib || *got.Stats.CPUS <= 0 {
		t.Errorf("got %s", out)
	}
	out, err = exec.Command(helper, "allocate", "--target", filepath.Join(pool, "a.raw"), "--capacity", "1M", "-o", "json").Output()
	if code := err.(*exec.ExitError).ExitCode(); code != record.ExitExists {
		t.Errorf("exit code %d", code)
	}
	must(t, json.Unmarshal(out, &got))
	if got.State != record.Failed || got.Error.Code != record.Exists {
		t.Errorf("got %s", out)
	}
}

func TestByHandSettleRemovesWhatAKilledOneLeft(t *testing.T) {
	p, pool := cloneByHand(t)
	p.moving()
	must(t, p.cmd.Process.Kill())
	p.cmd.Wait()
	left := names(t, pool)
	if len(left) != 2 || !record.Reserved(left[0]) {
		t.Fatalf("left %q", left)
	}
	job := strings.TrimSuffix(strings.TrimPrefix(left[0], "."), ".storaged")
	out, err := exec.Command(helper, "settle", "--target", filepath.Join(pool, "b.raw"), "--job", job).CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	onlyHas(t, pool, "a.raw")
}
