package main_test

import (
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/term/ptytest"
)

// Whoever looks at the jobs of a daemon on a terminal that takes nothing can be told to
// leave: the terminal's modes are as they were, and the jobs go on.
func TestTopOnATerminalThatTakesNothingLeaves(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.random("base", 64*mib)
	job := h.slowClone("copy")
	pty := ptytest.Open(t, 80)
	modes := func() unix.Termios { return *must(unix.IoctlGetTermios(int(pty.Slave.Fd()), unix.TCGETS))(t) }
	before := modes()
	p := h.spawn(func(c *exec.Cmd) {
		c.Env = append(os.Environ(), "TERM=xterm")
		c.Stdin, c.Stdout, c.Stderr = pty.Slave, pty.Slave, pty.Slave
		c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	}, "top")
	pty.Expect("volume.clone")
	pty.Hang()
	h.await("a write that is held up", func() bool { return ptytest.HeldUp(t, p.Process.Pid) })
	h.must(p.Process.Signal(syscall.SIGTERM))
	if code := p.code(); code != record.ExitCanceled {
		t.Errorf("exit %d", code)
	}
	if after := modes(); after != before {
		t.Errorf("the terminal is %+v, and was %+v", after, before)
	}
	if j := h.job(job); j.State != record.Running {
		t.Errorf("the job is %s", j.State)
	}
	must(h.client.CancelJob(h.ctx(), job.Job.ID, contract.JobCancel{}))(t)
	h.end(job, nil)
}
