package tool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"storaged/internal/confine"
)

// Command is a run of a program.
type Command struct {
	Program
	Verb     string   // its first argument, "" for none
	Options  []string // behind it
	Operands []string // behind "--"
	// Secrets are for a program that takes objects: its options name them by SecretName.
	Secrets [][]byte
	// Files are inherited, file i as descriptor FD(i). Beside them there are only
	// the standard three: input is empty.
	Files []*os.File
	// Policy says which of the files may be opened anew, as /proc/self/fd/N, and how.
	// Nothing else can be opened but what the program itself needs.
	Policy confine.Policy
	// Lock is the job's, which one that moves data inherits: as long as it lives
	// somebody may still write. nil: it moves none, or there is no job.
	Lock   *os.File
	Limits Limits
	Output int // bytes of standard output at most, for Run

	objects []string // before the options
	free    bool     // it is not confined
	within  *os.File // the mount namespace that it is in then; nil: this process's
}

// firstFD is the first descriptor behind the standard three.
const firstFD = 3

// FD is the descriptor that file i of a command is for the program.
func FD(i int) int { return firstFD + i }

// environment is all that a program gets of it. Messages are not translated. The
// memory of buffers is kept and not given back to the kernel for each request: a
// page fault costs more than what is done with the page. It comes in huge pages where
// the kernel has them (glibc's tunables): what is read and written past the page cache
// goes to the device in few long pieces then, and not page by page. Two arenas are enough
// for threads that do little but I/O, and each takes address space by the hundred MiB.
var environment = []string{
	"LC_ALL=C", "PATH=" + path, "MALLOC_ARENA_MAX=2", "GLIBC_TUNABLES=glibc.malloc.hugetlb=1",
	"MALLOC_MMAP_THRESHOLD_=67108864", "MALLOC_TOP_PAD_=67108864", "MALLOC_TRIM_THRESHOLD_=134217728",
}

// drainTime is how long a program's pipes are read after its end: only what it
// has left behind, and what is about to be killed, has them open.
const drainTime = time.Second

// Child is a program that runs. It ends with this process at the latest, even if
// that is killed.
type Child struct {
	cmd     *exec.Cmd
	command Command
	said    *saying
	Level   confine.Level         // how far it is confined
	ended   chan struct{}         // closed when it was waited for
	err     error                 // how it ended, when it has
	cause   atomic.Pointer[error] // why we have ended it
}

// start starts a program, whose output goes to stdout, and with nil to what comes
// into its error.
func (c Command) start(stdout io.Writer) (*Child, error) {
	at, err := c.Find()
	if err != nil {
		return nil, err
	}
	if c.Objects {
		held, err := c.hold()
		if err != nil {
			return nil, err
		}
		defer held.close()
	}
	ch := &Child{command: c, said: &saying{}, ended: make(chan struct{})}
	ch.command.Secrets = nil // they are not ours to keep
	ch.cmd = c.at(at)
	ch.cmd.Stdout, ch.cmd.Stderr = stdout, ch.said
	if stdout == nil {
		ch.cmd.Stdout = ch.said
	}
	// What this process inherited itself is not for others.
	unix.CloseRange(firstFD, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC) // from Linux 5.11 on
	if c.free {
		err = confine.UnconfinedIn(c.within, ch.cmd)
	} else {
		ch.Level, err = confine.Start(c.Policy, ch.cmd)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", at, err)
	}
	go ch.wait()
	if err := c.Limits.set(ch.cmd.Process.Pid); err != nil {
		ch.Kill()
		return nil, fmt.Errorf("cannot bound %s: %w", at, err)
	}
	return ch, nil
}

// at is the command at its path.
func (c Command) at(path string) *exec.Cmd {
	args := []string{c.Name}
	if c.Verb != "" {
		args = append(args, c.Verb)
	}
	args = append(append(args, c.objects...), c.Options...)
	if len(c.Operands) > 0 {
		args = append(append(args, "--"), c.Operands...)
	}
	files := c.Files[:len(c.Files):len(c.Files)]
	if c.Lock != nil {
		files = append(files, c.Lock)
	}
	return &exec.Cmd{
		Path: path, Args: args, Env: environment, Dir: "/", ExtraFiles: files,
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true}, WaitDelay: drainTime,
	}
}

// wait waits for the end of the child, which takes with it whatever it has
// started.
func (ch *Child) wait() {
	defer close(ch.ended)
	pid := ch.cmd.Process.Pid
	for unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
	unix.Kill(-pid, unix.SIGKILL) // it is not reaped yet: nobody else has the number
	err := ch.cmd.Wait()
	if err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		ch.err = ch.died(err)
	}
}

// Ended is closed when the child has ended and was reaped.
func (ch *Child) Ended() <-chan struct{} { return ch.ended }

// Err says how a child that has ended did so, nil with exit 0.
func (ch *Child) Err() error { return ch.err }

// Kill ends it, if it runs, and reaps it.
func (ch *Child) Kill() {
	ch.cmd.Process.Kill() // or it has ended
	<-ch.ended
}

// End ends it for a reason, which is how it ended then.
func (ch *Child) End(cause error) {
	ch.cause.CompareAndSwap(nil, &cause)
	ch.Kill()
}

// EndError is a program's end that was not exit 0.
type EndError struct {
	Program string
	Exit    int    // -1: by a signal
	Limit   string // by which it was ended, "" if by none
	How     string // for people
	Said    string // what it said first and last, as it said it
}

func (e *EndError) Error() string {
	if e.Said == "" {
		return fmt.Sprintf("%s %s", e.Program, e.How)
	}
	return fmt.Sprintf("%s %s: %s", e.Program, e.How, escape(brief(e.Said)))
}

// died makes the error of an end.
func (ch *Child) died(err error) error {
	e := &EndError{Program: ch.command.Name, Exit: ch.cmd.ProcessState.ExitCode(), Said: ch.command.without(ch.said.String())}
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		return fmt.Errorf("%s: %w", ch.command.Name, err) // of its pipes
	}
	status := exit.Sys().(syscall.WaitStatus)
	if cause := ch.cause.Load(); cause != nil && status.Signaled() {
		return fmt.Errorf("%s was ended: %w", ch.command.Name, *cause)
	}
	e.Limit = ch.command.Limits.reached(status, e.Said)
	switch {
	case e.Limit != "":
		e.How = "was ended by its limit of " + e.Limit
	case status.Signaled() && status.Signal() == unix.SIGKILL:
		e.How = "was killed, by the kernel for want of memory or by somebody"
	case status.Signaled():
		e.How = fmt.Sprintf("was ended by a signal (%v)", status.Signal())
	default:
		e.How = fmt.Sprintf("failed (exit %d)", e.Exit)
	}
	return e
}

// without is what a program says without its name and the option that it says it of:
// QEMU repeats those, and they are ours.
func (c Command) without(said string) string {
	for i := 1; i < len(c.Options); i++ {
		if _, of, ok := strings.Cut(said, c.Options[i-1]+" "+c.Options[i]+": "); ok {
			said = of
		}
	}
	for _, operand := range c.Operands {
		said = strings.ReplaceAll(said, "'"+operand+"'", "it")
	}
	return strings.ReplaceAll(said, c.Name+": ", "")
}

// Run runs a program to its end and gives what it wrote to standard output. Where
// ctx ends first it is killed, and the error is that of ctx.
func (c Command) Run(ctx context.Context) ([]byte, error) {
	out := &output{most: c.Output}
	ch, err := c.start(out)
	if err != nil {
		return nil, err
	}
	select {
	case <-ch.ended:
		if out.over != nil {
			return nil, fmt.Errorf("%s: %w", c.Name, out.over)
		}
		return out.kept, ch.err
	case <-ctx.Done():
		ch.Kill()
		return nil, fmt.Errorf("%s was ended: %w", c.Name, context.Cause(ctx))
	}
}

// Administer is Run of a program that is not confined, since it has to do with the system
// as a whole: it mounts, or makes what lies on devices. Its policy does not count.
func (c Command) Administer(ctx context.Context) ([]byte, error) {
	c.free = true
	return c.Run(ctx)
}

// Signal sends it a signal.
func (ch *Child) Signal(s os.Signal) error { return ch.cmd.Process.Signal(s) }
