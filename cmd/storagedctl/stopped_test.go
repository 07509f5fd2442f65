package main

import (
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"storaged/internal/record"
	"storaged/internal/term/ptytest"
)

// heldUp waits until a process is held up by its terminal; news are what it may want to
// show.
func (p *process) heldUp(news func(i int)) {
	p.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(patience)
	for i := 0; !ptytest.HeldUp(p.t, p.Process.Pid); i++ {
		news(i)
		select {
		case <-tick.C:
		case <-timeout:
			p.t.Fatal("it writes nothing to the terminal")
		}
	}
}

// waysToStop have a terminal take nothing.
var waysToStop = map[string]func(*ptytest.Terminal){"stopped": (*ptytest.Terminal).Stop, "hung": (*ptytest.Terminal).Hang}

// Whoever looks at jobs, or waits for its own, hears signals although its terminal takes
// no byte; it leaves as it always does, and the terminal's modes are as they were.
func TestSignalsAreHeardOnATerminalThatTakesNothing(t *testing.T) {
	for name, c := range map[string]struct {
		line  string
		shows string
		sig   syscall.Signal
		code  int
		state record.State
	}{
		"top":       {"top", "q leave", syscall.SIGTERM, record.ExitCanceled, record.Running},
		"top, INT":  {"top", "q leave", syscall.SIGINT, record.ExitCanceled, record.Running},
		"watch":     {"job watch", "job 410", syscall.SIGTERM, record.ExitCanceled, record.Running},
		"wait":      {"job wait 410", "job 410", syscall.SIGINT, record.ExitCanceled, record.Running},
		"jsonl":     {"job wait 410 -o jsonl", "job 410", syscall.SIGTERM, record.ExitCanceled, record.Running},
		"events":    {"events", "job 410", syscall.SIGTERM, record.ExitCanceled, record.Running},
		"its own":   {"vol clone images/base.raw images/x", "job 410", syscall.SIGTERM, record.ExitCanceled, record.Canceled},
		"own, INT":  {"vol clone images/base.raw images/x", "job 410", syscall.SIGINT, record.ExitCanceled, record.Canceled},
		"own, QUIT": {"vol clone images/base.raw images/x", "job 410", syscall.SIGQUIT, 0, record.Running},
	} {
		for way, stop := range waysToStop {
			t.Run(name+" "+way, func(t *testing.T) {
				t.Parallel()
				d := newDaemon(t).hold()
				if !strings.HasPrefix(c.line, "vol") {
					d.run("vol clone images/base.raw images/x --detach")
				}
				pty := ptytest.Open(t, 80)
				before := terminalModes(t, pty)
				p := d.spawn(c.line, onTerminal(pty))
				news := func(i int) { d.end(410, running(float64(i%100))) }
				if c.line == "events" {
					d.runUntil(pty, news)
				}
				pty.Expect(c.shows)
				stop(pty)
				p.heldUp(news)
				p.kill(c.sig)
				if code := p.code(); code != c.code {
					t.Errorf("exit %d", code)
				}
				if state := d.state(410); state != c.state {
					t.Errorf("the job is %s", state)
				}
				if after := terminalModes(t, pty); after != before {
					t.Errorf("the terminal is %+v, and was %+v", after, before)
				}
			})
		}
	}
}

// runUntil gives news until something is shown.
func (d *daemon) runUntil(pty *ptytest.Terminal, news func(int)) {
	d.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(patience)
	for i := 0; pty.Shown() == ""; i++ {
		news(i)
		select {
		case <-tick.C:
		case <-timeout:
			d.t.Fatal("nothing is shown")
		}
	}
}

// A time that is up is heard as well.
func TestTimeoutIsHeardOnATerminalThatTakesNothing(t *testing.T) {
	d := newDaemon(t).hold()
	d.run("vol clone images/base.raw images/x --detach")
	pty := ptytest.Open(t, 80)
	p := d.spawn("job watch 410 --timeout 3s", onTerminal(pty))
	pty.Expect("job 410")
	pty.Stop()
	p.heldUp(func(i int) { d.end(410, running(float64(i%100))) })
	if code := p.code(); code != record.ExitTimedOut {
		t.Errorf("exit %d", code)
	}
}

// What is to be done meanwhile is done, and told as soon as the terminal takes it.
func TestWaitingGoesOnWhileTheTerminalTakesNothing(t *testing.T) {
	d := newDaemon(t).hold()
	d.locked(func(f *fake) { f.stubborn = true })
	pty := ptytest.Open(t, 80)
	p := d.spawn("vol clone images/base.raw images/x --cancel-after 3s", onTerminal(pty))
	pty.Expect("job 410")
	pty.Stop()
	p.heldUp(func(i int) { d.end(410, running(float64(i%100))) })
	await(t, d.changed)
	d.end(410, canceledByAlice)
	pty.Go()
	if code := p.code(); code != record.ExitCanceled {
		t.Errorf("exit %d", code)
	}
	expectAll(t, pty.All(), "the time is up", "the unfinished images/x will be removed", "was canceled by alice")
}

// What stops a program from outside has the terminal given back, as Ctrl-Z does, also
// where it takes nothing.
func TestTopIsStoppedFromOutside(t *testing.T) {
	for _, hung := range []bool{false, true} {
		d := newDaemon(t).hold()
		d.run("vol clone images/base.raw images/x --detach")
		pty := ptytest.Open(t, 80)
		before := terminalModes(t, pty)
		p := d.spawn("top", func(c *exec.Cmd) {
			onTerminal(pty)(c)
			c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		})
		pty.Expect("q leave")
		if hung {
			pty.Stop()
			p.heldUp(func(i int) { d.end(410, running(float64(i%100))) })
		}
		for range 2 {
			p.kill(syscall.SIGTSTP)
			stopped(t, p.Process.Pid)
			if terminalModes(t, pty) != before {
				t.Errorf("hung: %v: while it is stopped the terminal is not as it was", hung)
			}
			if hung {
				pty.Go()
				hung = false // that it was given is not told any more when it goes on
			} else {
				pty.Expect("\x1b[?1049l")
			}
			p.kill(syscall.SIGCONT)
			pty.Expect("\x1b[?1049h")
			pty.Expect("q leave")
			if terminalModes(t, pty) == before {
				t.Error("it goes on without the terminal")
			}
		}
		pty.Type("q")
		if code := p.code(); code != 0 || terminalModes(t, pty) != before {
			t.Errorf("exit %d", code)
		}
	}
}

// Who leaves with a key right behind one that asked for something is told what came of it.
func TestTopTellsWhatCameOfAKeyBeforeItWasLeft(t *testing.T) {
	for _, c := range []struct{ keys, says string }{
		{"\x1b[Bpq", "job 410 (volume.clone images/x): paused"},
		{"\x1b[Bcyq", "canceled"},
		{"\x1b[Bp\x03", "job 410 (volume.clone images/x): paused"},
	} {
		d := newDaemon(t).hold()
		d.run("vol clone images/base.raw images/x --detach")
		answer := make(chan struct{})
		d.locked(func(f *fake) { f.reply = answer })
		pty := ptytest.Open(t, 120)
		p := d.topOn(pty, "")
		pty.Type(c.keys)
		pty.Expect("\x1b[?1049l")
		close(answer)
		pty.Expect(c.says)
		if code := p.code(); code != 0 && !strings.HasSuffix(c.keys, "\x03") {
			t.Errorf("%q: exit %d", c.keys, code)
		}
		if state := d.state(410); state != record.Paused && state != record.Canceled {
			t.Errorf("%q: the job is %s", c.keys, state)
		}
	}
}

// A daemon that does not answer is not waited for; it is said.
func TestTopIsLeftThoughTheDaemonDoesNotAnswer(t *testing.T) {
	d := newDaemon(t).hold()
	d.run("vol clone images/base.raw images/x --detach")
	answer := make(chan struct{})
	defer close(answer)
	d.locked(func(f *fake) { f.reply = answer })
	pty := ptytest.Open(t, 120)
	p := d.topOn(pty, "")
	pty.Type("\x1b[Bpq")
	if code := p.code(); code != 0 {
		t.Errorf("exit %d", code)
	}
	pty.Expect("left before the daemon had answered to a key; storagedctl list shows what came of it")
}
