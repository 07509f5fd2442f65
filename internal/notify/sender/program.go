package sender

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"storaged/internal/confine"
	"storaged/internal/notify"
)

// program is run once for each event: its argv.
type program []string

// environment is all that a program gets of it.
var environment = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8"}

const (
	// refuses is the exit code of a program that does not take this event, ever: EX_DATAERR
	// of sysexits.h.
	refuses = 65

	// maxSaid bounds what is kept of what a program writes, bytes. It may write more.
	maxSaid = 1 << 10

	// drainTime is how long what it wrote is read after its end: only what it has left
	// behind, and what is about to be killed, has that open.
	drainTime = time.Second
)

// tell runs the program with the event as its input. It ends with this process at the
// latest, and takes with it whatever it has started and left in its group.
func (p program) tell(ctx context.Context, event []byte) error {
	out := notify.Said{Most: maxSaid}
	cmd := &exec.Cmd{
		Path: p[0], Args: p, Env: environment, Dir: "/", Stdin: bytes.NewReader(append(event, '\n')), Stdout: &out, Stderr: &out,
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true}, WaitDelay: drainTime,
	}
	if err := confine.Unconfined(cmd); err != nil {
		return fmt.Errorf("cannot run %q: %w", p[0], err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
		}
	}()
	select {
	case <-ended:
	case <-ctx.Done():
	}
	unix.Kill(-cmd.Process.Pid, unix.SIGKILL) // it is not reaped yet: nobody else has the number
	err := cmd.Wait()
	<-ended
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil && !cmd.ProcessState.Success():
		return failure(p[0], cmd, out.String())
	}
	return nil // whether it has read the event to its end or not
}

// saidError is one of which only the log's readers may know what the program said: it may have
// written a secret.
type saidError struct {
	error
	said string
}

func (e saidError) Unwrap() error { return e.error }

// failure is the error of a program that has failed.
func failure(path string, cmd *exec.Cmd, out string) error {
	err := fmt.Errorf("%q failed (%v)", path, cmd.ProcessState)
	if cmd.ProcessState.ExitCode() == refuses {
		err = refusedError{err}
	}
	if out = strings.TrimSpace(out); out != "" {
		return saidError{err, fmt.Sprintf("%.200q", out)}
	}
	return err
}
