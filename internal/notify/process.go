package notify

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Program is what a process calls itself that tells a receiver. It is no command: this
// program starts itself under that name.
const Program = "storage-notify"

// Mission is what such a process is told first, a line of JSON. Each line after it is an
// Event, and it answers each by a line with an Answer.
type Mission struct {
	Receiver
	Version string `json:"version"`
}

// Answer is what came of an event.
type Answer struct {
	Error   string `json:"error,omitempty"`   // "": the receiver has it
	Said    string `json:"said,omitempty"`    // what its program wrote then
	Refused bool   `json:"refused,omitempty"` // the receiver does not take this one, ever
}

const (
	// grace is how much longer than the receiver's timeout an answer may take. The process
	// keeps to the timeout by itself.
	grace = 10 * time.Second

	// endTime is how long a process may take to end that has nothing more to do.
	endTime = 2 * time.Second

	maxAnswer = 4 << 10 // bytes of an answer, and of what a process says that dies
)

// process tells one receiver, one event at a time.
type process struct {
	cmd   *exec.Cmd
	lines *os.File      // to it; when that is closed it ends
	from  *os.File      // its answers
	read  *bufio.Reader // of from
	said  Said
	ended chan struct{} // closed when it was waited for
}

// environment is all that the process gets of it: how the race detector ends, in tests.
func environment() []string {
	if v, ok := os.LookupEnv("GORACE"); ok {
		return []string{"GORACE=" + v}
	}
	return []string{}
}

// start starts the process of a receiver, as the user who is to run its program.
func start(m Mission) (p *process, err error) {
	// What this process was started with (sockets of socket activation, say) has no
	// close-on-exec flag. A kernel before 5.11 refuses, and nothing is lost but tidiness.
	_ = unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	theirs, ours, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	from, answers, err := os.Pipe()
	if err != nil {
		ours.Close()
		return nil, err
	}
	defer answers.Close()
	p = &process{lines: ours, from: from, said: Said{Most: maxAnswer}, read: bufio.NewReaderSize(from, maxAnswer), ended: make(chan struct{})}
	p.cmd = &exec.Cmd{
		Path: "/proc/self/exe", Args: []string{Program}, Env: environment(), Dir: "/",
		Stdin: theirs, Stdout: answers, Stderr: &p.said, WaitDelay: endTime,
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true},
	}
	id, err := m.credential()
	if id != nil {
		p.cmd.SysProcAttr.Credential = &syscall.Credential{Uid: id.uid, Gid: id.gid, Groups: id.groups}
	}
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		ours.Close()
		from.Close()
		return nil, fmt.Errorf("cannot start %s: %w", Program, err)
	}
	go func() {
		_ = p.cmd.Wait() // cmd.ProcessState says how it ended
		close(p.ended)
	}()
	if err := json.NewEncoder(ours).Encode(m); err != nil { // it fits into the pipe, or the process reads
		p.end()
		return nil, p.died(err)
	}
	return p, nil
}

// dead reports whether it has ended.
func (p *process) dead() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// end has it end, and waits for that. What it is about is broken off.
func (p *process) end() {
	p.lines.Close()
	select {
	case <-p.ended:
	case <-time.After(endTime):
		p.kill()
	}
	p.from.Close()
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill() // or it has ended
	<-p.ended
}

// died says how it ended that was to answer.
func (p *process) died(err error) error {
	select {
	case <-p.ended:
	case <-time.After(endTime):
		return fmt.Errorf("%s does not answer: %w", Program, err)
	}
	how := fmt.Sprintf("%s ended (%v)", Program, p.cmd.ProcessState)
	if said := strings.TrimSpace(p.said.String()); said != "" {
		how += fmt.Sprintf(": %.200q", said)
	}
	return errors.New(how)
}

// tell has it tell an event. An error is that it is not known what came of it: the process
// is of no use any more then.
func (p *process) tell(ctx context.Context, e Event, within time.Duration) (a Answer, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, within, fmt.Errorf("%s does not answer within %v", Program, within))
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- p.ask(e, &a) }()
	select {
	case err := <-done:
		if err != nil {
			return Answer{}, p.died(err)
		}
		return a, nil
	case <-ctx.Done():
		p.end()
		if <-done == nil { // it was told, while it was to be broken off
			return a, nil
		}
		return Answer{}, context.Cause(ctx)
	}
}

// ask sends an event and reads the answer.
func (p *process) ask(e Event, a *Answer) error {
	if err := json.NewEncoder(p.lines).Encode(e); err != nil {
		return err
	}
	line, err := p.read.ReadSlice('\n')
	if err != nil {
		return err
	}
	return json.Unmarshal(line, a)
}
