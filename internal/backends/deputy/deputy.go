// Package deputy does errands for a process that is confined. Before it is, the process
// starts a second one of the same program that stays as it is, and says what that may be
// asked for: from then on it answers those errands and no others. So who takes over the
// confined process, by what an image holds, can do no more than end the job that the
// process has.
package deputy

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"storaged/internal/backends"
	"storaged/internal/record"
)

// Grant is what may be asked about a pool.
type Grant struct {
	Pool backends.Pool
	May  []backends.Errand
}

// Deputy is the second process, as the one that asks it has it.
type Deputy struct {
	mu     sync.Mutex // one errand at a time
	socket *os.File
	cmd    *exec.Cmd
}

// sent is the deputy of this process, nil while it does its errands itself.
var sent atomic.Pointer[Deputy]

// Do has an errand done: by the deputy, if this process has sent one, or else here. By a
// deputy it comes to its end, also where ctx ends, or this process.
func Do(ctx context.Context, b backends.Deputed, p backends.Pool, e backends.Errand) (backends.Answer, error) {
	if err := ctx.Err(); err != nil {
		return backends.Answer{}, context.Cause(ctx)
	}
	if d := sent.Load(); d != nil {
		return d.ask(request{poolOf(p), e})
	}
	return b.Errand(ctx, p, e)
}

// Descriptors of a deputy.
const (
	socketFD = 3
	lockFD   = 4 // if it has one
)

// maxRequest bounds what a deputy reads at once, bytes.
const maxRequest = 64 << 10

// pool is what an errand is about.
type pool struct {
	Type   string        `json:"type"`
	Target string        `json:"target"`
	Source record.Source `json:"source"`
}

func poolOf(p backends.Pool) pool { return pool{p.Type, p.Target, p.Source} }

// is reports whether both are the same; empty lists are none.
func (p pool) is(o pool) bool {
	a, errA := json.Marshal(p)
	b, errB := json.Marshal(o)
	return errA == nil && errB == nil && string(a) == string(b)
}

// grant is a Grant on its way.
type grant struct {
	Pool pool              `json:"pool"`
	ID   backends.Identity `json:"id,omitempty"`
	May  []backends.Errand `json:"may"`
}

// mission is what a deputy is told first.
type mission struct {
	Locked bool    `json:"locked"` // it has the job's lock
	Grants []grant `json:"grants"`
}

// request is what it is asked then.
type request struct {
	Pool   pool            `json:"pool"`
	Errand backends.Errand `json:"errand"`
}

// Send starts this program as the deputy of this process, by that argument, at which it has
// to call Serve. All errands of this process are asked of it from then on, until Recall. It
// inherits the job's lock, if there is one: as long as it is at work the job is.
func Send(argument string, lock *os.File, grants []Grant) (*Deputy, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot make the socket of a deputy: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "deputy"), os.NewFile(uintptr(pair[1]), "asker")
	defer theirs.Close()
	d := &Deputy{socket: ours, cmd: exec.Command("/proc/self/exe", argument)}
	d.cmd.Env, d.cmd.Dir, d.cmd.ExtraFiles = []string{}, "/", []*os.File{theirs}
	d.cmd.Stderr = os.Stderr
	if lock != nil {
		d.cmd.ExtraFiles = append(d.cmd.ExtraFiles, lock)
	}
	if err := d.cmd.Start(); err != nil {
		ours.Close()
		return nil, fmt.Errorf("cannot start a deputy: %w", err)
	}
	m := mission{Locked: lock != nil}
	for _, g := range grants {
		m.Grants = append(m.Grants, grant{poolOf(g.Pool), g.Pool.ID, g.May})
	}
	if err := json.NewEncoder(ours).Encode(m); err != nil {
		d.Recall()
		return nil, fmt.Errorf("cannot tell a deputy what it may be asked for: %w", err)
	}
	sent.Store(d)
	return d, nil
}

// Recall ends the deputy when it has done what it was asked. From then on this process
// does its errands itself, as far as it can.
func (d *Deputy) Recall() {
	sent.CompareAndSwap(d, nil)
	d.socket.Close()
	_ = d.cmd.Wait() // there is nothing more to hear of it
}

// ask has it do an errand.
func (d *Deputy) ask(r request) (a backends.Answer, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	text, err := json.Marshal(r)
	if err != nil {
		return a, err
	}
	if len(text) >= maxRequest {
		return a, fmt.Errorf("an errand of %d bytes is too long", len(text))
	}
	var is answer
	if _, err = d.socket.Write(append(text, '\n')); err == nil {
		is, a.File, err = receive(int(d.socket.Fd()))
	}
	if err != nil {
		return a, fmt.Errorf("the process that acts for this one does not answer: %w", err)
	}
	a.Text = is.Text
	if is.Fault != nil {
		return a, is.Fault.error()
	}
	return a, nil
}

// Serve is what a deputy does: errands, until nobody can ask for any more. find gives the
// driver of a pool type.
func Serve(find func(poolType string) (backends.Backend, error)) error {
	socket := os.NewFile(socketFD, "asker")
	lines := bufio.NewReader(socket)
	first, err := lines.ReadBytes('\n') // of our own program, which nobody has influenced yet
	s := server{find: find}
	if err == nil {
		err = json.Unmarshal(first, &s.mission)
	}
	if err != nil {
		return fmt.Errorf("cannot read what may be asked for: %w", err)
	}
	if s.Locked {
		s.lock = os.NewFile(lockFD, "lock")
		unix.CloseOnExec(lockFD)
	}
	unix.CloseOnExec(socketFD)
	in := bufio.NewScanner(lines)
	in.Buffer(nil, maxRequest)
	for in.Scan() {
		a, err := s.serve(in.Bytes())
		if err := send(socketFD, a, err); err != nil {
			return err
		}
	}
	return in.Err()
}

// server is a deputy at work.
type server struct {
	mission
	lock *os.File // nil: there is none
	find func(poolType string) (backends.Backend, error)
}

// errNotGranted is the end of whoever asks for what it has no need of.
var errNotGranted = errors.New("that was not said to be needed")

// serve does an errand, if it may be asked for.
func (s server) serve(text []byte) (a backends.Answer, err error) {
	var r request
	if err := json.Unmarshal(text, &r); err != nil {
		return a, err
	}
	i := slices.IndexFunc(s.Grants, func(g grant) bool { return g.Pool.is(r.Pool) && slices.ContainsFunc(g.May, r.covered) })
	if i < 0 {
		return a, fmt.Errorf("%q of pool %q: %w", r.Errand.Do, r.Pool.Target, errNotGranted)
	}
	g := s.Grants[i]
	b, err := s.find(g.Pool.Type)
	if err != nil {
		return a, err
	}
	able, ok := b.(backends.Deputed)
	if !ok {
		return a, fmt.Errorf("pools of type %q have no deputies", g.Pool.Type)
	}
	p := backends.Pool{Type: g.Pool.Type, Target: g.Pool.Target, Source: g.Pool.Source, ID: g.ID, JobLock: s.lock}
	return able.Errand(context.Background(), p, r.Errand)
}

// covered reports whether a grant is for the errand.
func (r request) covered(may backends.Errand) bool {
	if may.Do != r.Errand.Do || len(may.Args) != len(r.Errand.Args) {
		return false
	}
	for i, arg := range may.Args {
		if arg != "" && arg != r.Errand.Args[i] {
			return false
		}
	}
	return true
}
