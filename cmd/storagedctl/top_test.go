package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"storaged/internal/record"
	"storaged/internal/term/ptytest"
	"storaged/internal/testenv"
)

// topOn starts top on a terminal, and waits until it has drawn.
func (d *daemon) topOn(pty *ptytest.Terminal, flags string) *process {
	d.t.Helper()
	p := d.spawn("top "+flags, onTerminal(pty))
	pty.Expect("q leave")
	return p
}

// frameEnd is what a frame ends with.
const frameEnd = "\x1b[J"

// lastFrame is what was drawn last. A frame of which some was expected is awaited whole.
func lastFrame(pty *ptytest.Terminal) []string {
	pty.Expect(frameEnd)
	return wholeFrame(pty.Shown())
}

// wholeFrame is the last frame that is shown from its beginning to its end.
func wholeFrame(shown string) []string {
	frames := strings.Split(shown[:strings.LastIndex(shown, frameEnd)], "\x1b[H")
	frame := frames[len(frames)-1]
	lines := strings.Split(frame, "\r\n")
	for i := range lines {
		lines[i] = strings.TrimRight(plainText.Replace(lines[i]), " ")
	}
	return lines
}

var plainText = strings.NewReplacer("\x1b[K", "", "\x1b[1m", "", "\x1b[7m", "", "\x1b[0m", "")

// Of a frame that has come in part nothing is told.
func TestWholeFrame(t *testing.T) {
	const whole = "\x1b[2J\x1b[Hold\x1b[K\x1b[J\x1b[H\x1b[1mone\x1b[0m\x1b[K\r\ntwo\x1b[K\x1b[J"
	for _, part := range []string{"", "\x1b[H", "\x1b[Hthree\x1b[K\r\nfo"} {
		if got := wholeFrame(whole + part); !slices.Equal(got, []string{"one", "two"}) {
			t.Errorf("%q: %q", part, got)
		}
	}
}

// What runs comes first, news of jobs are drawn as they come, and who ends is seen to.
func TestTopShowsJobsAsTheyGoOn(t *testing.T) {
	d := newDaemon(t).hold()
	crowd(d)
	pty := ptytest.Open(t, 80)
	pty.ResizeTo(80, 10)
	p := d.topOn(pty, "")
	lines := lastFrame(pty)
	if len(lines) != 10 || !strings.HasPrefix(lines[0], "storagedctl top") {
		t.Fatalf("%d lines: %q", len(lines), lines)
	}
	expectAll(t, lines[0], "1 paused, 13 queued, 3 running", "1.43 GiB/s")
	expectAll(t, lines[2], "413", "[==      ]  34.2 %", "488 MiB/s", "copy")
	expectAll(t, lines[5], "410", "paused (user)")
	expectAll(t, lines[6], "414", "waits for a")
	d.end(413, running(71.5))
	pty.Expect("[=====   ]  71.5 %")
	d.end(413, succeeded)
	pty.Expect("succeeded")
	d.run("vol wipe images/vm1.raw --yes --detach")
	pty.Expect("images/vm1.raw")
	pty.Type("q")
	if code := p.code(); code != 0 {
		t.Errorf("exit %d", code)
	}
}

// Keys act on the job that is selected, which stays so wherever it goes.
func TestTopActsOnTheSelectedJob(t *testing.T) {
	d := newDaemon(t).hold()
	crowd(d)
	pty := ptytest.Open(t, 120)
	p := d.topOn(pty, "")
	pty.Type("\x1b[B\x1bOB\x1b[B") // down, as terminals send it in one mode and in the other
	pty.Expect("\x1b[7m411")
	pty.Type("c")
	pty.Expect("Cancel job 411 (volume.clone images/a-volume-with-a-long-name-01.raw)? [y/N] the unfinished")
	pty.Type("n")
	pty.Expect("q leave")
	if state := d.state(411); state != record.Running {
		t.Errorf("job 411 is %s though nobody agreed", state)
	}
	pty.Type("p")
	pty.Expect("job 411 (volume.clone images/a-volume-with-a-long-name-01.raw): paused")
	if state := d.state(411); state != record.Paused {
		t.Errorf("job 411 is %s", state)
	}
	pty.Type(" ")
	pty.Expect("-01.raw): running")
	pty.Type("l")
	pty.Expect("Limit of job 411 (now none), like 100M, or none: _")
	pty.Type("10x\x7f0M\r")
	pty.Expect("-01.raw): at most 100 MiB/s")
	pty.Type("lsoon\r")
	pty.Expect(`"soon"`)
	pty.Type("lnone\x1b") // and Escape
	pty.Expect("q leave")
	pty.Type("cy")
	await(t, d.changed)
	pty.Expect("canceled after 4.0 s")
	pty.Type("q")
	if code := p.code(); code != 0 || d.state(411) != record.Canceled {
		t.Errorf("exit %d, job 411 is %s", code, d.state(411))
	}
	d.locked(func(f *fake) {
		if l := f.jobs[1].Limit; l == nil || *l != 100<<20 {
			t.Errorf("its limit is %v", l)
		}
		for _, j := range f.jobs {
			if j.State == record.Canceled && j.Number != 411 {
				t.Errorf("job %d is canceled", j.Number)
			}
		}
	})
}

// What was said of a job that a key had changed is said no longer than it is so.
func TestTopSaysOfAJobWhatItIs(t *testing.T) {
	d := newDaemon(t).hold()
	d.run("vol clone images/base.raw images/x --detach")
	pty := ptytest.Open(t, 140)
	p := d.topOn(pty, "")
	pty.Type("\x1b[Bp")
	pty.Expect("job 410 (volume.clone images/x): paused")
	d.end(410, running(50))
	pty.Expect("[============            ]  50.0 %")
	pty.Expect("q leave")
	pty.Type("q")
	if code := p.code(); code != 0 {
		t.Errorf("exit %d", code)
	}
}

// A job is acted on that somebody has selected, and none that has come to its place.
func TestTopActsOnNoJobThatNobodySelected(t *testing.T) {
	d := newDaemon(t).hold()
	d.run("vol clone images/base.raw images/x --detach")
	pty := ptytest.Open(t, 120)
	p := d.topOn(pty, "")
	d.run("vol clone images/base.raw images/y --detach")
	pty.Expect("411")
	refused := func(key string) {
		t.Helper()
		pty.Type("\x0c" + key) // no message is left of the one before
		pty.Expect("select a job with the arrows first")
		pty.Type("y")
	}
	for _, key := range []string{"p", " ", "l", "c"} {
		refused(key)
	}
	if strings.Contains(pty.Shown(), "\x1b[7m") {
		t.Error("one is marked as if it were selected")
	}
	pty.Type("\x1b[A") // up, to the last
	pty.Expect("\x1b[7m410")
	d.stop()
	pty.Expect("trying again")
	d.locked(func(f *fake) { f.change(410, succeeded) })
	d.serve()
	pty.Expect("connected to the daemon again")
	refused("c")
	pty.Type("\x1b[B")
	pty.Expect("\x1b[7m411")
	pty.Type("q")
	if code := p.code(); code != 0 || d.state(411) != record.Running || len(d.changed) > 0 {
		t.Errorf("exit %d, job 411 is %s", code, d.state(411))
	}
}

// From no selection the keys go to one end of the jobs.
func TestTopSelectsFromNone(t *testing.T) {
	d := newDaemon(t).hold()
	crowd(d) // 413 is the first, 426 the last
	for key, want := range map[string]string{"\x1b[B": "413", "\x1b[H": "413", "\x1b[A": "426", "\x1b[F": "426"} {
		pty := ptytest.Open(t, 120)
		p := d.topOn(pty, "")
		pty.Type(key)
		pty.Expect("\x1b[7m" + want)
		pty.Type("q")
		if code := p.code(); code != 0 {
			t.Errorf("%q: exit %d", key, code)
		}
	}
}

// What waits for room goes on by itself: it is paused, and let go on when it is so.
func TestTopPausesWhatWaitsForRoom(t *testing.T) {
	d := newDaemon(t).hold()
	d.run("vol clone images/base.raw images/x --detach")
	waits := func(reasons ...string) {
		d.end(410, func(j *record.Job) { j.State, j.PauseReasons = record.Paused, reasons })
	}
	waits(record.PauseSpace)
	pty := ptytest.Open(t, 120)
	p := d.topOn(pty, "")
	pty.Type("\x1b[Bp")
	pty.Expect("job 410 (volume.clone images/x): ")
	d.locked(func(f *fake) {
		if j := f.jobs[0]; !slices.Equal(j.PauseReasons, []string{record.PauseUser}) {
			t.Errorf("job 410 is %s %q", j.State, j.PauseReasons)
		}
	})
	waits(record.PauseUser, record.PauseSpace)
	pty.Expect("user, space")
	pty.Type("p")
	pty.Expect("): running")
	pty.Type("q")
	if code := p.code(); code != 0 || d.state(410) != record.Running {
		t.Errorf("exit %d, job 410 is %s", code, d.state(410))
	}
}

// What has ended is shown for a while.
func TestTopForgetsWhatHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &overview{jobs: map[string]*record.Job{}, ended: map[string]time.Time{}}
		o.take(record.Job{ID: "a", State: record.Running})
		o.take(record.Job{ID: "b", State: record.Running})
		o.take(record.Job{ID: "a", State: record.Succeeded})
		shown := func() (ids []string) {
			o.forget()
			for _, j := range o.sorted() {
				ids = append(ids, j.ID)
			}
			return ids
		}
		time.Sleep(endedStays)
		if ids := shown(); len(ids) != 2 {
			t.Errorf("after %s there is %q", endedStays, ids)
		}
		time.Sleep(time.Nanosecond)
		if ids := shown(); !slices.Equal(ids, []string{"b"}) || len(o.ended) > 0 {
			t.Errorf("after more than %s there is %q", endedStays, ids)
		}
	})
}

func TestTopIsOrderedByKeys(t *testing.T) {
	d := newDaemon(t).hold()
	for i := range 3 {
		d.run(fmt.Sprintf("vol clone images/base.raw images/%d --detach", i))
	}
	d.end(411, func(j *record.Job) { j.Progress.RateBytes = 9 << 30 })
	first := func(pty *ptytest.Terminal) string { return strings.Fields(lastFrame(pty)[2])[0] }
	pty := ptytest.Open(t, 120)
	p := d.topOn(pty, "--sort -rate")
	if got := first(pty); got != "411" {
		t.Errorf("by --sort -rate job %s is first", got)
	}
	pty.Type("r")
	pty.Expect("411") // the last of the table
	pty.Type("S")
	pty.Expect("ordered by done")
	pty.Type("SSS") // object, kind, job
	pty.Expect("ordered by job")
	if got := first(pty); got != "410" {
		t.Errorf("by job %s is first", got)
	}
	pty.Type("S")
	pty.Expect("in the order of the queue")
	pty.Type("q")
	if code := p.code(); code != 0 {
		t.Errorf("exit %d", code)
	}
	if _, errs, code := d.run("list --sort colour"); code != record.ExitUsage {
		t.Errorf("exit %d: %s", code, errs)
	}
}

// terminalModes are those of a terminal.
func terminalModes(t *testing.T, pty *ptytest.Terminal) unix.Termios {
	t.Helper()
	m, err := unix.IoctlGetTermios(int(pty.Slave.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return *m
}

// However it ends, the terminal is as it was.
func TestTopGivesTheTerminalBack(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(*ptytest.Terminal, *process)
		code int
	}{
		"q":       {func(pty *ptytest.Terminal, _ *process) { pty.Type("q") }, 0},
		"Ctrl-C":  {func(pty *ptytest.Terminal, _ *process) { pty.Type("\x03") }, record.ExitCanceled},
		"Ctrl-\\": {func(pty *ptytest.Terminal, _ *process) { pty.Type("\x1c") }, record.ExitCanceled},
		"Ctrl-C while it asks": {func(pty *ptytest.Terminal, _ *process) {
			pty.Type("\x1b[Bc")
			pty.Expect("[y/N]")
			pty.Type("\x03")
		}, record.ExitCanceled},
		"SIGTERM": {func(_ *ptytest.Terminal, p *process) { p.kill(syscall.SIGTERM) }, record.ExitCanceled},
		"SIGINT":  {func(_ *ptytest.Terminal, p *process) { p.kill(syscall.SIGINT) }, record.ExitCanceled},
		"SIGHUP":  {func(_ *ptytest.Terminal, p *process) { p.kill(syscall.SIGHUP) }, record.ExitCanceled},
		"SIGQUIT": {func(_ *ptytest.Terminal, p *process) { p.kill(syscall.SIGQUIT) }, record.ExitCanceled},
	} {
		d := newDaemon(t).hold()
		d.run("vol clone images/base.raw images/x --detach")
		pty := ptytest.Open(t, 80)
		before := terminalModes(t, pty)
		p := d.topOn(pty, "")
		if terminalModes(t, pty) == before {
			t.Errorf("%s: the terminal is not taken", name)
		}
		c.end(pty, p)
		if code := p.code(); code != c.code {
			t.Errorf("%s: exit %d", name, code)
		}
		if after := terminalModes(t, pty); after != before {
			t.Errorf("%s: the terminal is %+v, and was %+v", name, after, before)
		}
		if all := pty.All(); !strings.HasSuffix(all, "\x1b[?7h\x1b[?25h\x1b[?1049l") || strings.Count(all, "\x1b[?1049") != 2 {
			t.Errorf("%s: at the end the terminal was sent %q", name, all[max(len(all)-60, 0):])
		}
		if state := d.state(410); state != record.Running {
			t.Errorf("%s: the job is %s", name, state)
		}
	}
}

func TestTopEndsWhenTheTerminalIsGone(t *testing.T) {
	d := newDaemon(t).hold()
	for _, ignored := range []bool{false, true} {
		pty := ptytest.Open(t, 80)
		p := d.spawn("top", func(c *exec.Cmd) {
			onTerminal(pty)(c)
			if ignored { // as nohup does: the end of the keys is all there is to know
				c.Args = append([]string{"sh", "-c", `trap "" HUP; exec "$@"`, "sh"}, append([]string{os.Args[0]}, c.Args[1:]...)...)
				c.Path = "/bin/sh"
			}
		})
		pty.Expect("no job is live")
		pty.HangUp()
		if code := p.code(); code != record.ExitCanceled {
			t.Errorf("SIGHUP ignored: %v: exit %d", ignored, code)
		}
	}
}

// Ctrl-Z gives the terminal back and stops; going on takes it again.
func TestTopIsStoppedAndGoesOn(t *testing.T) {
	d := newDaemon(t).hold()
	d.run("vol clone images/base.raw images/x --detach")
	pty := ptytest.Open(t, 80)
	before := terminalModes(t, pty)
	// In the session of the test, or the kernel would let nobody stop who has nobody
	// to let it go on.
	p := d.spawn("top", func(c *exec.Cmd) {
		onTerminal(pty)(c)
		c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	})
	pty.Expect("q leave")
	pty.Type("\x1a")
	pty.Expect("\x1b[?1049l")
	stopped(t, p.Process.Pid)
	if terminalModes(t, pty) != before {
		t.Error("while it is stopped the terminal is not as it was")
	}
	p.kill(syscall.SIGCONT)
	pty.Expect("\x1b[?1049h")
	pty.Expect("q leave")
	pty.Type("q")
	if code := p.code(); code != 0 || terminalModes(t, pty) != before {
		t.Errorf("exit %d", code)
	}
}

// Where nobody could let it go on, Ctrl-Z does not stop it.
func TestTopThatNobodyCouldLetGoOnIsNotStopped(t *testing.T) {
	d := newDaemon(t).hold()
	pty := ptytest.Open(t, 80)
	p := d.topOn(pty, "")
	pty.Type("\x1a")
	pty.Expect("\x1b[?1049l")
	pty.Expect("q leave")
	pty.Type("q")
	if code := p.code(); code != 0 {
		t.Errorf("exit %d", code)
	}
}

// stopped waits until a process is stopped.
func stopped(t *testing.T, pid int) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for timeout := time.After(patience); ; {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			t.Fatal(err)
		}
		if _, rest, _ := strings.Cut(string(stat), ") "); strings.HasPrefix(rest, "T") {
			return
		}
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("it is not stopped: %s", stat)
		}
	}
}

// Without a daemon the jobs are shown as they were, and it is said; afterwards as they are.
func TestTopOutlastsARestartOfTheDaemon(t *testing.T) {
	d := newDaemon(t).hold()
	d.run("vol clone images/base.raw images/x --detach")
	d.run("vol clone images/base.raw images/y --detach")
	pty := ptytest.Open(t, 160)
	p := d.topOn(pty, "")
	d.stop()
	pty.Expect("trying again for up to 5 min")
	d.locked(func(f *fake) {
		f.change(410, succeeded)
		f.change(411, running(88.8))
	})
	d.serve()
	pty.Expect("connected to the daemon again")
	if lines := lastFrame(pty); !strings.Contains(strings.Join(lines, "\n"), "88.8 %") || strings.Contains(strings.Join(lines, "\n"), "images/x") {
		t.Errorf("it shows %q", lines)
	}
	pty.Type("q")
	if code := p.code(); code != 0 {
		t.Errorf("exit %d", code)
	}
}

// Names and messages from elsewhere give the terminal no orders.
func TestTopShowsHostileTextAsText(t *testing.T) {
	d := newDaemon(t).hold()
	d.run("vol clone images/base.raw images/x --detach")
	const evil = "\x1b]0;owned\x07\x1b[2J\r\n\u202egpj.exe\x9b31m"
	d.end(410, func(j *record.Job) {
		j.Objects = []record.Object{{Pool: evil, Volume: evil, Mode: record.ModeWrite}}
		j.Owner.User, j.Phase.Name = evil, evil
	})
	pty := ptytest.Open(t, 400)
	p := d.topOn(pty, "")
	pty.Type("\x1b[Bc")
	pty.Expect("[y/N]")
	pty.Type("n")
	d.end(410, func(j *record.Job) { failed(record.IO)(j); j.Error.Message = evil })
	pty.Expect("failed: ")
	pty.Type("q")
	if code := p.code(); code != 0 {
		t.Errorf("exit %d", code)
	}
	all := pty.All()
	expectAll(t, all, `\x1b]0;owned\a\x1b[2J\r\n\u202egpj.exe`)
	ours := strings.NewReplacer("\x1b[?1049h", "", "\x1b[?1049l", "", "\x1b[?25h", "", "\x1b[?25l", "", "\x1b[?7h", "", "\x1b[?7l", "", "\x1b[H", "", "\x1b[J", "", "\x1b[K", "", "\x1b[1m", "", "\x1b[7m", "", "\x1b[0m", "", "\r\n", "")
	rest := strings.Replace(ours.Replace(all), "\x1b[2J", "", 1) // as it begins
	if i := strings.IndexFunc(rest, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
		t.Errorf("the terminal was sent %q", rest[max(i-20, 0):min(i+20, len(rest))])
	}
}

func TestTopNeedsATerminal(t *testing.T) {
	d := newDaemon(t)
	for line, says := range map[string]string{
		"top":         "top needs a terminal, to show and to be typed at\nstoragedctl: hint: storagedctl list, or storagedctl job watch",
		"top -o json": "-o json does nothing with ", "top --sort colour": "top needs a terminal",
	} {
		if out, errs, code := d.run(line); code != record.ExitUsage || !strings.Contains(errs, says) || out != "" {
			t.Errorf("%s: exit %d, %q %s", line, code, out, errs)
		}
	}
	pty := ptytest.Open(t, 80)
	p := d.spawn("top", func(c *exec.Cmd) {
		onTerminal(pty)(c)
		c.Env = append(c.Env, "TERM=dumb")
	})
	if code := p.code(); code != record.ExitUsage {
		t.Errorf("a dumb terminal: exit %d", code)
	}
}

// A state is not cut on a narrow terminal: what is said beside it is left out.
func TestTopCutsNoState(t *testing.T) {
	s := &session{tool: quiet(), cli: cli.NewContext(cli.NewApp(), flag.NewFlagSet("", 0), nil)}
	job := func(number int64, change func(*record.Job)) *record.Job {
		j := record.Job{Number: number, Kind: record.VolumeClone, Objects: []record.Object{{Pool: "images", Volume: "a-name-that-is-rather-long.qcow2"}}}
		running(34.2)(&j)
		change(&j)
		return &j
	}
	rows := []*record.Job{
		job(410, canceledByAlice), job(411, succeeded), job(412, failed(record.IO)),
		job(413, func(j *record.Job) { j.State, j.PauseReasons = record.Paused, []string{"user", "space"} }),
		job(414, func(j *record.Job) { j.Estimate.StalledSince = &day }),
		job(415, func(j *record.Job) { j.State = record.RollingBack }),
	}
	o := overview{session: s, columns: s.topColumns(), shown: rows}
	for _, width := range []int{60, 70, 80} {
		for i, want := range []string{"canceled", "succeeded", "failed: ", "paused", "stalled", "rolling back"} {
			line := o.table(-1, len(rows), width)[i+1].Text
			if !strings.Contains(line, "  "+want) || want != "failed: " && !strings.HasSuffix(line, "  "+want) {
				t.Errorf("%d columns: %q does not end with %q", width, line, want)
			}
		}
	}
}

// What a real terminal shows, at several sizes and after a change of its size.
func TestTopOnARealTerminal(t *testing.T) {
	d := newDaemon(t).hold()
	crowd(d)
	d.end(412, func(j *record.Job) { j.Progress.RateBytes, j.Estimate = 0, record.Estimate{StalledSince: &day} })
	for _, columns := range []int{60, 80, 120} {
		m := newMux(t, columns, 12, d.socket, "top")
		lines := m.expect("q leave")
		t.Logf("%d columns:\n%s", columns, strings.Join(lines, "\n"))
		if len(lines) != 12 || !strings.HasPrefix(lines[0], "storagedctl top") || !strings.HasPrefix(lines[11], "q leave") {
			t.Errorf("%d columns: %q", columns, lines)
		}
		for i, number := range []string{"413", "412", "411", "410", "414", "415", "416", "417", "418"} {
			if !strings.HasPrefix(lines[i+2], number) {
				t.Errorf("%d columns: line %d is %q", columns, i+3, lines[i+2])
			}
		}
		expectAll(t, lines[2], "34.2 %", "-03.raw")
		expectAll(t, lines[3], "stalled")
		expectAll(t, lines[6], "waits for a")
		m.run("resize-window", "-t", "top", "-x", "40", "-y", "6")
		lines = m.expect("413", "\nq leave")
		if len(lines) != 6 || strings.Contains(strings.Join(lines, "\n"), "417") {
			t.Errorf("%d columns, then 40: %q", columns, lines)
		}
		m.run("send-keys", "-t", "top", "q")
		m.expect("exit 0")
	}
}

// So does watch: a line for each job, what runs first, and what finds no room is counted.
func TestWatchOnARealTerminal(t *testing.T) {
	d := newDaemon(t).hold()
	crowd(d)
	for _, columns := range []int{60, 80, 120} {
		m := newMux(t, columns, 12, d.socket, "job watch")
		lines := m.expect("more queued")
		t.Logf("%d columns:\n%s", columns, strings.Join(lines, "\n"))
		for i, number := range []string{"413", "412", "411", "410", "414", "415", "416", "417", "418", "419"} {
			if !strings.HasPrefix(lines[i], "job "+number) {
				t.Errorf("%d columns: line %d is %q", columns, i+1, lines[i])
			}
		}
		if !strings.HasPrefix(lines[10], "and 7 more queued") {
			t.Errorf("%d columns: %q", columns, lines)
		}
		expectAll(t, lines[0], "34.2 %")
		expectAll(t, lines[3], "43.2 %", "paused (user)")
		m.run("send-keys", "-t", "top", "C-c")
		m.expect("exit 130")
	}
}

// mux is a terminal that tmux emulates.
type mux struct {
	t      *testing.T
	tmux   string
	socket string
}

// newMux runs a command line of storagedctl on one, and a shell that says how it ended.
func newMux(t *testing.T, columns, lines int, socket, line string) *mux {
	t.Helper()
	dir, err := os.MkdirTemp("", "mux") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	m := &mux{t: t, tmux: testenv.Tool(t, "tmux"), socket: filepath.Join(dir, "s")}
	t.Cleanup(func() {
		_ = m.command("kill-server").Run()
		_ = os.RemoveAll(dir)
	})
	command := fmt.Sprintf("trap : INT; STORAGEDCTL_MAIN=1 GORACE=atexit_sleep_ms=0 %s --socket %s %s; echo exit $?; read x", os.Args[0], socket, line)
	m.run("-f", "/dev/null", "new-session", "-d", "-s", "top", "-x", fmt.Sprint(columns), "-y", fmt.Sprint(lines), "-e", "NO_COLOR=1", "sh", "-c", command)
	return m
}

func (m *mux) command(args ...string) *exec.Cmd {
	return exec.Command(m.tmux, append([]string{"-S", m.socket}, args...)...)
}

func (m *mux) run(args ...string) string {
	m.t.Helper()
	out, err := m.command(args...).CombinedOutput()
	if err != nil {
		m.t.Fatalf("tmux %q: %v: %s", args, err, out)
	}
	return string(out)
}

// expect waits until the screen shows all texts, and gives its lines.
func (m *mux) expect(texts ...string) []string {
	m.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for timeout := time.After(patience); ; {
		screen := m.run("capture-pane", "-p", "-t", "top")
		all := true
		for _, text := range texts {
			all = all && strings.Contains(screen, text)
		}
		if all {
			return strings.Split(strings.TrimSuffix(screen, "\n"), "\n")
		}
		select {
		case <-tick.C:
		case <-timeout:
			m.t.Fatalf("%q does not appear, but\n%s", texts, screen)
		}
	}
}
