package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// The kernel shows to no process under Landlock what others have open. One that gives up
// its names, and has locks to take after that, starts a scout first: a second process,
// which keeps its sight and has nothing else to do. It is handed an open file and says who
// else has it open.

// scoutSocket is the descriptor by which a scout is asked.
const scoutSocket = 3

// Scout is that process, as the one that asks it has it.
type Scout struct {
	mu     sync.Mutex // one question at a time
	socket *os.File
	cmd    *exec.Cmd
}

// sent is the scout of this process, nil while it looks for itself.
var sent atomic.Pointer[Scout]

// SendScout starts this program as the scout of this process, by that argument, at which
// it has to call Watch. All that asks for holders of files asks it from then on, until
// Recall. It ends with this process at the latest.
func SendScout(argument string) (*Scout, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot make the socket of a scout: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "scout"), os.NewFile(uintptr(pair[1]), "asker")
	defer theirs.Close()
	s := &Scout{socket: ours, cmd: exec.Command("/proc/self/exe", argument)}
	s.cmd.Env, s.cmd.Dir, s.cmd.ExtraFiles = []string{}, "/", []*os.File{theirs}
	if err := s.cmd.Start(); err != nil {
		ours.Close()
		return nil, fmt.Errorf("cannot start a scout: %w", err)
	}
	sent.Store(s)
	return s, nil
}

// Recall ends the scout, which ends by itself when nobody can ask it any more.
func (s *Scout) Recall() {
	sent.CompareAndSwap(s, nil)
	s.socket.Close()
	_ = s.cmd.Wait() // there is nothing more to hear of it
}

// question is what a scout is asked about the file that comes with it.
type question struct {
	Lock *unix.Flock_t // who holds it; nil: who has the file open
	// Of the latter: the lease that was refused (openers), and whether because others are there.
	Kind   int
	Others bool
}

// answer is what it says.
type answer struct {
	Holder string // of the lock
	Users  []user // of the file
	Err    string
}

// maxAnswer bounds an answer, in bytes, and maxSeen how many users it names: one is
// enough to be refused by, and those that let go by themselves are few.
const (
	maxAnswer = 64 << 10
	maxSeen   = 64
)

// ask asks about a file.
func (s *Scout) ask(f *os.File, q question) (a answer, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := json.Marshal(q)
	if err != nil {
		panic("internal error: " + err.Error()) // plain values
	}
	conn, err := f.SyscallConn()
	if err != nil {
		return a, err
	}
	var bad error
	err = conn.Control(func(fd uintptr) {
		bad = again(func() error { return unix.Sendmsg(s.fd(), b, unix.UnixRights(int(fd)), nil, unix.MSG_NOSIGNAL) })
	})
	if err = errors.Join(err, bad); err == nil {
		b, _, err = receive(s.fd(), maxAnswer)
	}
	if err == nil {
		err = json.Unmarshal(b, &a)
	}
	if err == nil && a.Err != "" {
		err = errors.New(a.Err)
	}
	if err != nil {
		return a, fmt.Errorf("the scout does not say who has the file open: %w", err)
	}
	return a, nil
}

func (s *Scout) fd() int { return int(s.socket.Fd()) }

// Watch answers the process that started this one, until that has no more questions.
func Watch() error {
	watcher := here
	watcher.asker = os.Getppid()
	for {
		b, f, err := receive(scoutSocket, maxAnswer)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = reply(watcher.answer(b, f))
		}
		if err != nil {
			return err
		}
	}
}

// answer answers a question and closes its file.
func (k kernel) answer(text []byte, f *os.File) (a answer) {
	if f == nil {
		return answer{Err: "a question without a file"}
	}
	defer f.Close() // its locks stay with the asker's descriptor
	var q question
	err := json.Unmarshal(text, &q)
	switch {
	case err != nil:
	case q.Lock != nil:
		a.Holder = holder(f, *q.Lock)
	default:
		a.Users, err = k.others(f, q.Kind, q.Others)
	}
	if err != nil {
		a.Err = err.Error()
	}
	a.Users = a.Users[:min(len(a.Users), maxSeen)]
	return a
}

func reply(a answer) error {
	b, err := json.Marshal(a)
	if err != nil {
		panic("internal error: " + err.Error()) // plain values
	}
	return again(func() error { return unix.Sendmsg(scoutSocket, b, nil, nil, unix.MSG_NOSIGNAL) })
}

// receive takes a message of at most so many bytes and the file that comes with it, nil
// without one. io.EOF says that none comes any more.
func receive(socket, most int) (b []byte, f *os.File, err error) {
	b, rights := make([]byte, most), make([]byte, unix.CmsgSpace(4))
	var n, m int
	err = again(func() (err error) {
		n, m, _, _, err = unix.Recvmsg(socket, b, rights, unix.MSG_CMSG_CLOEXEC)
		return err
	})
	if err == nil && n == 0 {
		err = io.EOF
	}
	if err != nil {
		return nil, nil, err
	}
	messages, err := unix.ParseSocketControlMessage(rights[:m])
	if err != nil || len(messages) == 0 {
		return b[:n], nil, err
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) == 0 {
		return b[:n], nil, err
	}
	return b[:n], os.NewFile(uintptr(fds[0]), "asked about"), nil
}

// again repeats a call that a signal interrupted.
func again(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}
