package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"storaged/internal/record"
	"storaged/internal/term"
	"storaged/internal/term/ptytest"
	"storaged/internal/testenv"
)

// patience is how long a test waits for what must happen.
const patience = 2 * time.Minute

// screen is a stream that a test can wait on.
type screen struct {
	t testing.TB

	mu    sync.Mutex
	text  bytes.Buffer
	grown chan struct{}
}

func newScreen(t testing.TB) *screen { return &screen{t: t, grown: make(chan struct{})} }

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.grown)
	s.grown = make(chan struct{})
	return s.text.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// expect waits until text was written.
func (s *screen) expect(text string) {
	s.t.Helper()
	for timeout := time.After(patience); ; {
		s.mu.Lock()
		seen, grown := strings.Contains(s.text.String(), text), s.grown
		s.mu.Unlock()
		if seen {
			return
		}
		select {
		case <-grown:
		case <-timeout:
			s.t.Fatalf("%q does not appear, but %q", text, s.String())
		}
	}
}

// process is storagedctl as a process of its own.
type process struct {
	*exec.Cmd
	t         testing.TB
	out, errs *screen
	ended     chan error
}

// spawn starts a command line; prepare may change the command first.
func (d *daemon) spawn(line string, prepare func(*exec.Cmd)) *process {
	d.t.Helper()
	p := &process{t: d.t, out: newScreen(d.t), errs: newScreen(d.t), ended: make(chan error, 1)}
	p.Cmd = exec.Command(os.Args[0], append([]string{"--socket", d.socket}, strings.Fields(line)...)...)
	p.Env = append(os.Environ(), "STORAGEDCTL_MAIN=1", "GORACE=atexit_sleep_ms=0", "TERM=xterm", "NO_COLOR=1")
	p.Stdout, p.Stderr = p.out, p.errs
	if prepare != nil {
		prepare(p.Cmd)
	}
	testenv.Heeded(d.t, syscall.SIGHUP)
	if err := p.Start(); err != nil {
		d.t.Fatal(err)
	}
	go func() { p.ended <- p.Cmd.Wait() }()
	d.t.Cleanup(func() { _ = p.Process.Kill() })
	return p
}

func (p *process) kill(sig syscall.Signal) {
	p.t.Helper()
	if err := p.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
}

// code waits for the end and gives the exit code.
func (p *process) code() int {
	p.t.Helper()
	select {
	case err := <-p.ended:
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			p.t.Fatal(err)
		}
		return p.ProcessState.ExitCode()
	case <-time.After(patience):
		p.t.Fatalf("it does not end; it said %q", p.errs.String())
	}
	return 0
}

// insist sends a signal again and again until the process ends: one that
// comes too soon after another is taken for its echo.
func (p *process) insist(sig syscall.Signal) int {
	p.t.Helper()
	tick := time.NewTicker(echoInterval)
	defer tick.Stop()
	for timeout := time.After(patience); ; {
		select {
		case <-p.ended:
			return p.ProcessState.ExitCode()
		case <-tick.C:
			_ = p.Process.Signal(sig)
		case <-timeout:
			p.t.Fatalf("it does not end; it said %q", p.errs.String())
		}
	}
}

// await gives a value of a channel of the fake.
func await[T any](t testing.TB, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatal("it does not happen")
	}
	panic("internal error: unreachable")
}

func (d *daemon) hold() *daemon {
	d.locked(func(f *fake) { f.held = true })
	return d
}

func (d *daemon) state(number int64) record.State {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.jobs[number-410].State
}

func expectAll(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%q is not said:\n%s", p, text)
		}
	}
}

func TestFirstInterruptCancelsAndWaits(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		d := newDaemon(t).hold()
		p := d.spawn("vol clone images/base.raw images/x", nil)
		await(t, d.created)
		p.errs.expect("job 410")
		p.kill(sig)
		if code := p.code(); code != record.ExitCanceled {
			t.Errorf("%v: exit %d", sig, code)
		}
		if d.state(410) != record.Canceled {
			t.Errorf("%v: the job is %s", sig, d.state(410))
		}
		expectAll(t, p.errs.String(), "canceling job 410 (volume.clone images/x); the unfinished images/x will be removed",
			"storagedctl: error: job 410 (volume.clone images/x) was canceled by alice: what it had done is undone")
	}
}

func TestSecondInterruptLeavesAtOnce(t *testing.T) {
	d := newDaemon(t).hold()
	d.locked(func(f *fake) { f.stubborn = true })
	p := d.spawn("vol wipe images/vm1.raw --yes", nil)
	await(t, d.created)
	p.errs.expect("job 410")
	p.kill(syscall.SIGINT)
	await(t, d.changed)
	p.errs.expect("what is overwritten stays so")
	if code := p.insist(syscall.SIGINT); code != record.ExitCanceled {
		t.Errorf("exit %d", code)
	}
	if d.state(410) != record.Canceling {
		t.Errorf("the job is %s", d.state(410))
	}
	expectAll(t, p.errs.String(), "left while canceling: job 410 (volume.wipe images/vm1.raw)", "hint: storagedctl job show 410")
}

func TestInterruptOfProcessAndGroupIsOne(t *testing.T) {
	d := newDaemon(t).hold()
	d.locked(func(f *fake) { f.stubborn = true })
	p := d.spawn("vol clone images/base.raw images/x", nil)
	p.errs.expect("job 410")
	p.kill(syscall.SIGINT)
	p.kill(syscall.SIGTERM)
	p.errs.expect("canceling job 410")
	d.end(410, canceledByAlice)
	if code := p.code(); code != record.ExitCanceled || strings.Contains(p.errs.String(), "left while") {
		t.Errorf("exit %d: %s", code, p.errs.String())
	}
}

func TestInterruptBeforeTheAnswerCancelsWhatComes(t *testing.T) {
	d := newDaemon(t).hold()
	answer := make(chan struct{})
	d.locked(func(f *fake) { f.answer = answer })
	p := d.spawn("vol clone images/base.raw images/x", nil)
	await(t, d.asked)
	p.kill(syscall.SIGINT)
	p.errs.expect("canceling; once more leaves at once")
	close(answer)
	if code := p.code(); code != record.ExitCanceled || d.state(410) != record.Canceled {
		t.Errorf("exit %d, the job is %s", code, d.state(410))
	}
}

func TestQuitAndHangupLeaveTheJobRunning(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGQUIT, syscall.SIGHUP} {
		d := newDaemon(t).hold()
		p := d.spawn("vol clone images/base.raw images/x", nil)
		p.errs.expect("job 410")
		p.kill(sig)
		if code := p.code(); code != 0 || p.out.String() != "410\n" {
			t.Errorf("%v: exit %d, stdout %q", sig, code, p.out.String())
		}
		if d.state(410) != record.Running {
			t.Errorf("%v: the job is %s", sig, d.state(410))
		}
		expectAll(t, p.errs.String(), "job 410 (volume.clone images/x) goes on")
	}
}

// A second Ctrl-\ , or one where nothing is waited for, ends the command; nobody
// wants its stacks.
func TestQuitNeverPrintsStacks(t *testing.T) {
	d := newDaemon(t).hold()
	p := d.spawn("vol clone images/base.raw images/x", nil)
	p.errs.expect("job 410")
	p.kill(syscall.SIGQUIT)
	_ = p.Process.Signal(syscall.SIGQUIT) // unless it has ended
	if code := p.code(); code != 0 && code != exitQuit || strings.Contains(p.errs.String(), "goroutine") {
		t.Errorf("exit %d: %s", code, p.errs.String())
	}
	answer := make(chan struct{})
	d.locked(func(f *fake) { f.answer = answer })
	defer close(answer)
	await(t, d.asked)
	p = d.spawn("vol clone images/base.raw images/y --detach", nil)
	await(t, d.asked)
	p.kill(syscall.SIGQUIT)
	if code := p.code(); code != exitQuit || p.errs.String() != "" {
		t.Errorf("while nothing is waited for: exit %d, %s", code, p.errs.String())
	}
}

func TestNohupGoesOnAfterHangup(t *testing.T) {
	d := newDaemon(t).hold()
	p := d.spawn("vol clone images/base.raw images/x", func(c *exec.Cmd) {
		c.Args = append([]string{"sh", "-c", `trap "" HUP; exec "$@"`, "sh"}, append([]string{os.Args[0]}, c.Args[1:]...)...)
		c.Path = "/bin/sh"
	})
	p.errs.expect("job 410")
	p.kill(syscall.SIGHUP)
	d.end(410, succeeded)
	if code := p.code(); code != 0 {
		t.Errorf("exit %d: %s", code, p.errs.String())
	}
}

// A warning may be why a job does not end; who waits for it is told at once,
// and once.
func TestWarningIsToldWhileTheJobGoesOn(t *testing.T) {
	d := newDaemon(t).hold()
	p := d.spawn("vol clone images/base.raw images/x", nil)
	p.errs.expect("job 410")
	const warning = "the result of the job cannot be saved yet: no space"
	d.end(410, func(j *record.Job) { j.Warnings = []string{warning} }) // it only changes
	p.errs.expect("storagedctl: warning: job 410: " + warning)
	d.end(410, succeeded)
	if code := p.code(); code != 0 || strings.Count(p.errs.String(), warning) != 1 {
		t.Errorf("exit %d: %s", code, p.errs.String())
	}
}

func TestWhoOnlyWatchesOnlyLeaves(t *testing.T) {
	for _, line := range []string{"job watch 410", "job wait 410", "job watch", "events"} {
		d := newDaemon(t).hold()
		d.run("vol clone images/base.raw images/x --detach")
		p := d.spawn(line, nil)
		if line == "events" {
			d.readUntil(p, func() { d.run("job pause 410") }, "paused")
		} else {
			p.errs.expect("job 410")
		}
		p.kill(syscall.SIGINT)
		if code := p.code(); code != record.ExitCanceled {
			t.Errorf("%s: exit %d", line, code)
		}
		if state := d.state(410); state.Terminal() || state == record.Canceling {
			t.Errorf("%s: the job is %s", line, state)
		}
		if line != "job wait 410" && strings.Contains(p.errs.String(), "storagedctl:") {
			t.Errorf("%s: leaving says %q", line, p.errs.String())
		}
	}
}

// readUntil does something again and again until a process has printed text.
func (d *daemon) readUntil(p *process, do func(), text string) {
	d.t.Helper()
	for timeout := time.After(patience); ; {
		do()
		p.out.mu.Lock()
		seen, grown := strings.Contains(p.out.text.String(), text), p.out.grown
		p.out.mu.Unlock()
		if seen {
			return
		}
		select {
		case <-grown:
		case <-time.After(50 * time.Millisecond):
		case <-timeout:
			d.t.Fatalf("%q does not appear", text)
		}
	}
}

func TestWaitingClientSurvivesARestartOfTheDaemon(t *testing.T) {
	d := newDaemon(t).hold()
	p := d.spawn("vol clone images/base.raw images/x -o json", nil)
	p.errs.expect("job 410")
	d.stop()
	p.errs.expect("trying again for up to 5 min, job 410 (volume.clone images/x) goes on")
	d.serve()
	p.errs.expect("connected to the daemon again")
	d.end(410, succeeded)
	if code := p.code(); code != 0 {
		t.Fatalf("exit %d: %s", code, p.errs.String())
	}
	if n := strings.Count(p.errs.String(), "trying again"); n != 1 {
		t.Errorf("said %d times that the daemon is lost", n)
	}
	var j record.Job
	if err := json.Unmarshal([]byte(p.out.String()), &j); err != nil || j.State != record.Succeeded {
		t.Errorf("%v: %s", err, p.out.String())
	}
}

func TestJobThatEndedWhileTheDaemonWasAway(t *testing.T) {
	d := newDaemon(t).hold()
	p := d.spawn("vol clone images/base.raw images/x", nil)
	p.errs.expect("job 410")
	d.stop()
	p.errs.expect("trying again")
	d.end(410, failed(record.NoSpace))
	d.serve()
	if code := p.code(); code != record.ExitNoSpace {
		t.Errorf("exit %d: %s", code, p.errs.String())
	}
}

func TestRequestWhoseAnswerWasLostIsMadeAgainWithItsKey(t *testing.T) {
	d := newDaemon(t).hold()
	answer := make(chan struct{})
	d.locked(func(f *fake) { f.answer = answer })
	p := d.spawn("vol clone images/base.raw images/x", nil)
	await(t, d.asked)
	d.stop()
	p.errs.expect("asking again")
	d.serve()
	close(answer)
	p.errs.expect("job 410")
	d.end(410, succeeded)
	if code := p.code(); code != 0 {
		t.Errorf("exit %d: %s", code, p.errs.String())
	}
	d.locked(func(f *fake) {
		if len(f.jobs) != 1 || len(f.submits) < 2 || f.submits[0].Key == "" || f.submits[0].Key != f.submits[1].Key {
			t.Errorf("%d jobs by %+v", len(f.jobs), f.submits)
		}
	})
}

func TestBarOnATerminal(t *testing.T) {
	d := newDaemon(t).hold()
	pty := ptytest.Open(t, 100)
	p := d.spawn("vol clone images/base.raw images/x", onTerminal(pty))
	pty.Expect("34.2 %  [")
	pty.Expect("at 700 MiB of 2.00 GiB  488 MiB/s  2.8 s left  copy")
	pty.Type("\x03") // Ctrl-C
	pty.Expect("canceling job 410 (volume.clone images/x)")
	pty.Expect("was canceled by alice")
	if code := p.code(); code != record.ExitCanceled {
		t.Errorf("exit %d", code)
	}
}

// crowd has 17 jobs: three that run, one that is paused, and others that wait.
func crowd(d *daemon) {
	for i := range 17 {
		d.run(fmt.Sprintf("vol clone images/base.raw images/a-volume-with-a-long-name-%02d.raw --detach", i))
	}
	d.locked(func(f *fake) {
		for i := range f.jobs {
			switch number := f.jobs[i].Number; {
			case i == 0:
				f.change(number, func(j *record.Job) {
					j.State, j.PauseReasons, j.Progress.Percent = record.Paused, []string{record.PauseUser}, ptr(43.2)
				})
			case i > 3:
				f.change(number, func(j *record.Job) { queued(j); j.Created = day.Add(time.Duration(i) * time.Second) })
			}
		}
	})
}

func queued(j *record.Job) {
	j.State, j.Started, j.Helper, j.Phase, j.Estimate = record.Queued, nil, nil, nil, record.Estimate{}
	j.Progress = record.Progress{Unit: "bytes", Bounded: true}
	j.WaitingOn = []record.Blocker{{For: "slot", Position: 2}}
}

// Of many jobs those that run are drawn first, as many as the terminal has lines
// for, and to leave needs no word.
func TestWatchDrawsWhatRunsFirst(t *testing.T) {
	d := newDaemon(t).hold()
	crowd(d)
	pty := ptytest.Open(t, 80)
	pty.ResizeTo(80, 10)
	p := d.spawn("job watch", onTerminal(pty))
	for _, text := range []string{"job 413", "34.2 %", "job 412", "job 411", "job 410", "paused (user)", "43.2 %", "job 414", "waits for a place", "job 417", "and 9 more queued"} {
		pty.Expect(text)
	}
	d.end(413, succeeded)
	for _, text := range []string{"job 413: volume.clone images/a-volume-with-a-long-name-03.raw: succeeded", "job 412", "job 418", "and 8 more queued"} {
		pty.Expect(text)
	}
	for _, line := range strings.FieldsFunc(pty.Shown(), func(r rune) bool { return r == '\r' || r == '\n' }) {
		if drawn := strings.HasSuffix(line, "\x1b[K"); drawn && term.Width(strings.TrimSuffix(line, "\x1b[K")) > 79+len("\x1b[33m\x1b[32m\x1b[0m\x1b[0m") {
			t.Errorf("a line wraps: %q", line)
		}
	}
	before := len(pty.Shown())
	pty.Type("\x03")
	if code := p.code(); code != record.ExitCanceled {
		t.Errorf("exit %d", code)
	}
	if rest := pty.All()[before:]; strings.Contains(rest, "storagedctl") || !strings.HasSuffix(rest, "\x1b[J") {
		t.Errorf("at the end it shows %q", rest)
	}
}

// A table fits the terminal, and no number and no state of it is cut.
func TestListFitsTheTerminal(t *testing.T) {
	d := newDaemon(t).hold()
	crowd(d)
	for _, columns := range []int{60, 80, 100, 200} {
		pty := ptytest.Open(t, columns)
		p := d.spawn("list --no-headers", onTerminal(pty))
		if code := p.code(); code != 0 {
			t.Fatalf("exit %d: %q", code, pty.Shown())
		}
		pty.Expect("426") // the last one
		pty.Expect("\n")
		lines := strings.Split(strings.TrimSpace(pty.Shown()), "\r\n")
		var numbers []string
		for _, line := range lines {
			if term.Width(line) > columns {
				t.Errorf("%d columns: %q", columns, line)
			}
			numbers = append(numbers, strings.Fields(line)[0])
		}
		expectAll(t, lines[0], "34.2 %", "running")
		expectAll(t, lines[3], "43.2 %", "paused")
		if got := strings.Join(numbers, " "); got != "413 412 411 410 414 415 416 417 418 419 420 421 422 423 424 425 426" {
			t.Errorf("%d columns: in the order %s", columns, got)
		}
	}
	if out, _, _ := d.run("list"); !strings.Contains(out, "images/a-volume-with-a-long-name-00.raw") {
		t.Errorf("without a terminal something is cut:\n%s", out)
	}
}

// Those that wait are listed by their turns, which the priority brings forward.
func TestListIsInTheOrderOfTheQueue(t *testing.T) {
	d := newDaemon(t).hold()
	for i := range 5 {
		d.run(fmt.Sprintf("vol clone images/base.raw images/%d --detach", i))
	}
	d.end(410, succeeded)
	d.locked(func(f *fake) {
		for number, p := range map[int64]record.Priority{411: record.Background, 412: record.NormalPriority, 413: record.Interactive} {
			f.change(number, func(j *record.Job) { queued(j); j.Priority = p })
		}
	})
	if out, _, _ := d.run("job list --all -o name"); out != "414\n413\n412\n411\n410\n" {
		t.Errorf("listed %q", out)
	}
}

// onTerminal gives a process a terminal as its own.
func onTerminal(pty *ptytest.Terminal) func(*exec.Cmd) {
	return func(c *exec.Cmd) {
		c.Stdin, c.Stdout, c.Stderr = pty.Slave, pty.Slave, pty.Slave
		c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	}
}

func TestDestructionAsksOnATerminal(t *testing.T) {
	for _, c := range []struct {
		line, list, question, answer string
		code                         int
	}{
		{"vol delete images/vm1.raw isos/none", "images/vm1.raw: 5.00 GiB, 2.50 GiB of it allocated, in use by job 410 (volume.wipe images/vm1.raw)\r\n  isos/none: not found", "Go on? [y/N]", "n", 130},
		{"vol wipe images/vm1.raw", "images/vm1.raw: 5.00 GiB", "Go on? [y/N]", "y", 0},
		{"vol resize images/vm1.raw 1G --shrink", "images/vm1.raw: 5.00 GiB", "Go on? [y/N]", "", 130},
		{"vol verify images/vm1.raw --repair all", "images/vm1.raw: 5.00 GiB", "Go on? [y/N]", "n", 130},
		{"pool delete images", "/srv/images\r\n  images/base.raw: 10.0 GiB", "Type images to go on:", "isos", 130},
		{"pool delete images", "images/vm1.raw: 5.00 GiB", "Type images to go on:", "images", 0},
		{"pool stop images --force", "job 410 (volume.wipe images/vm1.raw) of alice", "Go on? [y/N]", "yes", 0},
		{"pool build images --overwrite", "/srv/images", "Go on? [y/N]", "no", 130},
		{"pool evacuate images --to isos --only no*", "moves volumes of pool images to isos:\r\n  there is nothing of that now", "Go on? [y/N]", "n", 130},
		{"job retry 410", "overwrites the content of images/vm1.raw:\r\n  images/vm1.raw: 5.00 GiB", "Go on? [y/N]", "n", 130},
		{"job retry 410", "images/vm1.raw: 5.00 GiB", "Go on? [y/N]", "y", 0},
	} {
		d := newDaemon(t).hold()
		d.run("vol wipe images/vm1.raw --yes --detach")
		d.locked(func(f *fake) { f.held = false })
		pty := ptytest.Open(t, 100)
		p := d.spawn(c.line, onTerminal(pty))
		pty.Expect(c.list)
		pty.Expect(c.question)
		pty.Type(c.answer + "\n")
		if code := p.code(); code != c.code {
			t.Errorf("%s: exit %d, %q", c.line, code, pty.Shown())
		}
		if c.code != 0 {
			pty.Expect("not confirmed; nothing was touched")
		}
		d.locked(func(f *fake) {
			if started := len(f.jobs) == 2; started != (c.code == 0) {
				t.Errorf("%s, answered %q: %d jobs", c.line, c.answer, len(f.jobs))
			}
		})
	}
}

// shownBy runs a command line on a terminal and gives the lines that it shows.
func (d *daemon) shownBy(columns int, line string) []string {
	d.t.Helper()
	pty := ptytest.Open(d.t, columns)
	p := d.spawn(line, onTerminal(pty))
	if code := p.code(); code != 0 {
		d.t.Fatalf("%s: exit %d: %q", line, code, pty.Shown())
	}
	return strings.Split(strings.TrimRight(pty.All(), "\r\n"), "\r\n")
}

// Names are cut in their middle and times told by how long ago they are, unless
// all is asked for, or the table is for a program.
func TestWhatATableShowsOfItsCells(t *testing.T) {
	d := newDaemon(t).hold()
	d.run("vol clone images/base.raw images/a-volume-with-a-long-name-01.raw --detach")
	d.end(410, func(j *record.Job) { j.Created = time.Now().Add(-3*time.Hour - time.Minute) })
	created := d.jobs[0].Created.Format(time.DateTime)
	for _, c := range []struct {
		columns int
		flags   string
		parts   []string
	}{
		{60, "", []string{"images/a-v…ame-01.raw  running  34.2 %"}},
		{80, "", []string{"images/a-vo…name-01.raw  running  34.2 %  488 MiB/s"}},
		{120, "", []string{"images/a-volume-with-a-long-name-01.raw", "alice  3 h ago"}},
		{200, "", []string{"images/a-volume-with-a-long-name-01.raw", created}},
		{60, "--wide", []string{"images/a-volume-with-a-long-name-01.raw", created}},
		{50, "--columns object,created", []string{"images/a-volume-with-a-long-name-01.raw", "3 h ago"}},
	} {
		lines := d.shownBy(c.columns, "list --no-headers "+c.flags)
		expectAll(t, lines[0], c.parts...)
		if width := term.Width(lines[0]); (width > c.columns) != (c.flags == "--wide") {
			t.Errorf("%d columns %s: %d are taken by %q", c.columns, c.flags, width, lines[0])
		}
	}
}

// Lists are in the order that is asked for, whatever their form.
func TestListsAreSorted(t *testing.T) {
	d := newDaemon(t).hold()
	crowd(d)
	d.run("vol wipe images/vm1.raw --detach --yes")
	d.end(412, func(j *record.Job) { j.Progress.RateBytes = 9 << 30 })
	d.end(411, func(j *record.Job) { j.Progress.RateBytes = 10 })
	for line, want := range map[string]string{
		"vol list --sort capacity -o name":                       "isos/evil\\u202egpj.iso images/vm1.raw images/base.raw",
		"vol list --sort -capacity -o name":                      "images/base.raw images/vm1.raw isos/evil\\u202egpj.iso",
		"vol list images --sort=-volume -o name":                 "images/vm1.raw images/base.raw",
		"list --state running --sort -rate -o name":              "412 427 413 411",
		"list --state running --sort kind -o name":               "413 412 411 427",
		"list --sort job --state running --state paused -o name": "410 411 412 413 427",
		"pool list --sort -name --columns name --no-headers":     "isos images",
	} {
		if out, errs, code := d.run(line); strings.Join(strings.Fields(out), " ") != want && strings.TrimSpace(strings.ReplaceAll(out, "\n", " ")) != want || code != 0 {
			t.Errorf("%s: exit %d, %q, not %q\n%s", line, code, out, want, errs)
		}
	}
	for line, says := range map[string]string{
		"list --sort color": "--sort: no column \"color\"; there are job, kind,", "vol show images/vm1.raw --sort name": "--sort does nothing with \"vol show\"",
		"list --sort": "--sort needs a value", "list --sort --all": "--sort needs a value",
	} {
		if _, errs, code := d.run(line); code != record.ExitUsage || !strings.Contains(errs, says) {
			t.Errorf("%s: exit %d, %s", line, code, errs)
		}
	}
}

// Who sits at a terminal is told the proper name, once, and nobody else.
func TestAliasSaysItsProperName(t *testing.T) {
	d := newDaemon(t)
	for line, says := range map[string]string{
		"vol-list images": "storagedctl: vol-list is vol list here", "ls": "storagedctl: ls is vol list here", "ls -q": "", "vol ls": "", "vol list": "",
	} {
		shown := strings.Join(d.shownBy(100, line), "\n")
		if strings.Count(shown, " here") != len(nonEmpty([]string{says})) || !strings.Contains(shown, says) || !strings.Contains(shown, "images/vm1.raw") {
			t.Errorf("%s: %s", line, shown)
		}
		if _, errs, _ := d.run(line); errs != "" {
			t.Errorf("%s: without a terminal %q", line, errs)
		}
	}
}
