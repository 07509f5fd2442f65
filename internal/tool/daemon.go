package tool

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Link is how a qemu-storage-daemon is spoken to: a pair of sockets for its monitor,
// and connections to its NBD server that wait until it accepts them. The name that
// they were made by has gone by then, so that nobody else connects. It is made
// before this process gives up making sockets.
type Link struct {
	monitor  net.Conn
	peer     *os.File // the other end of monitor
	listener *os.File
	Conns    []net.Conn // to the NBD server
	// Memory is an empty file that is in no file system, for what the child is to read and
	// no file has.
	Memory *os.File
}

// NewLink makes one with so many connections to the NBD server. For that the server has
// a name for an instant, in a new directory beneath dir, "" for that of temporary files.
func NewLink(connections int, dir string) (l *Link, err error) {
	l = &Link{}
	defer func() {
		if err != nil {
			l.Close()
			l, err = nil, fmt.Errorf("cannot make sockets for %s: %w", StorageDaemon.Name, err)
		}
	}()
	if l.Memory, err = inMemory(); err != nil {
		return l, err
	}
	if l.monitor, l.peer, err = pair(); err != nil {
		return l, err
	}
	private, err := os.MkdirTemp(dir, "storaged-") // nobody else enters it
	if err != nil {
		return l, err
	}
	defer os.RemoveAll(private)
	return l, l.connect(connections, private)
}

// connect makes connections by a name in a directory, which may have a longer one than
// a socket can.
func (l *Link) connect(connections int, dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close() // it was only read
	server, err := net.ListenUnix("unix", &net.UnixAddr{Name: fmt.Sprintf("/proc/self/fd/%d/nbd", d.Fd()), Net: "unix"})
	if err != nil {
		return err
	}
	defer server.Close()
	if l.listener, err = server.File(); err != nil {
		return err
	}
	for range connections {
		c, err := net.Dial("unix", server.Addr().String())
		if err != nil {
			return err
		}
		l.Conns = append(l.Conns, c)
	}
	return nil
}

func inMemory() (*os.File, error) {
	fd, err := unix.MemfdCreate("memory", unix.MFD_CLOEXEC|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3
		fd, err = unix.MemfdCreate("memory", unix.MFD_CLOEXEC)
	}
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	return os.NewFile(uintptr(fd), "memory"), nil
}

func pair() (ours net.Conn, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	f := os.NewFile(uintptr(fds[0]), "monitor")
	defer f.Close()
	theirs = os.NewFile(uintptr(fds[1]), "monitor")
	ours, err = net.FileConn(f)
	return ours, theirs, err
}

// release closes what only the child needs.
func (l *Link) release() {
	for _, f := range []*os.File{l.peer, l.listener, l.Memory} {
		if f != nil {
			f.Close()
		}
	}
}

// Close closes all of it; it may be closed already.
func (l *Link) Close() {
	l.release()
	for _, c := range append(l.Conns, l.monitor) {
		if c != nil {
			c.Close()
		}
	}
}

// Deadlines of a qemu-storage-daemon. Each is far more than it takes on a device that
// answers, and there so that one that never does is an error.
const (
	CommandTime = 2 * time.Minute // opening an image reads its tables
	quitTime    = time.Minute     // closing writes what is left of them; contents were flushed before
)

// Daemon is a qemu-storage-daemon. Its methods are for one goroutine at a time,
// Explain for any.
type Daemon struct {
	*Child
	Link    *Link
	monitor *monitor
	closed  sync.Once
	end     error
}

// Graph is what a qemu-storage-daemon opens, as QAPI describes it (QEMU
// docs/interop/qemu-storage-daemon-qmp-ref).
type Graph struct {
	Nodes   []any // of the block layer, each before what stands on it
	Exports []any // some of them over NBD
}

// StartDaemon starts a qemu-storage-daemon for a link, which becomes its own, and
// returns when it has opened a graph; how long that may take is the caller's to say. A
// refusal to open it is a *CommandError. Of the command files, secrets, lock, limits and
// policy count.
//
// It opens the graph before it listens: a client that it has accepted it gives ten
// seconds to negotiate, also while it opens images.
func StartDaemon(ctx context.Context, l *Link, c Command, g Graph) (*Daemon, error) {
	c.Program, c.Verb, c.Operands = StorageDaemon, "", nil
	n := len(c.Files)
	c.Files = append(c.Files[:n:n], l.peer, l.listener)
	c.Options = g.options(FD(n), FD(n+1))
	ch, err := c.start(nil)
	if err != nil {
		l.Close()
		return nil, err
	}
	l.release()
	d := &Daemon{Child: ch, Link: l, monitor: newMonitor(l.monitor)}
	err = d.monitor.greet(ctx)
	if err == nil {
		err = d.monitor.execute(ctx, "qmp_capabilities", nil, nil)
	}
	if err != nil {
		err = d.refused(err)
		d.Abandon()
		return nil, err
	}
	return d, nil
}

// options are what it does, in that order.
func (g Graph) options(monitor, listener int) (all []string) {
	for _, node := range g.Nodes {
		all = append(all, "--blockdev", inline(node))
	}
	all = append(all, "--chardev", "socket,id=monitor,fd="+strconv.Itoa(monitor), "--monitor", "chardev=monitor")
	if len(g.Exports) > 0 {
		all = append(all, "--nbd-server", fmt.Sprintf("addr.type=fd,addr.str=%d,max-connections=0", listener))
	}
	for _, export := range g.Exports {
		all = append(all, "--export", inline(export))
	}
	return all
}

// inline is a value as an option.
func inline(value any) string {
	b, err := json.Marshal(value)
	if err != nil {
		panic("internal error: " + err.Error()) // plain values
	}
	return string(b)
}

// refused is the error of a start: what it said of an option where that ended it.
func (d *Daemon) refused(err error) error {
	end, ok := errors.AsType[*EndError](d.Explain(err))
	switch {
	case ok && end.Exit == exitOption && end.Limit == "" && end.Said != "":
		return &CommandError{Desc: end.Said}
	case ok:
		return end
	}
	return fmt.Errorf("%s does not answer: %w", d.command.Name, d.Explain(err))
}

// exitOption is how it ends when it cannot do what an option says.
const exitOption = 1

// deathTime is how long the end of a child is waited for whose connection broke: the
// kernel closes that at its end, and reaping is all that is missing.
const deathTime = 5 * time.Second

// Explain adds to an error, also one of a connection to its server, how the child
// has ended, where that is behind it.
func (d *Daemon) Explain(err error) error {
	if err == nil || !d.gone(err) {
		return err
	}
	if d.err == nil {
		return fmt.Errorf("%s has ended: %w", d.command.Name, err)
	}
	return fmt.Errorf("%w (%v)", d.err, err) // of a connection that broke with it nobody needs the code
}

// gone tells whether the child has ended. After an error of a connection it may be
// about to.
func (d *Daemon) gone(err error) bool {
	wait := time.Duration(0)
	for _, broken := range []error{io.EOF, io.ErrUnexpectedEOF, unix.ECONNRESET, unix.EPIPE, net.ErrClosed} {
		if errors.Is(err, broken) {
			wait = deathTime
		}
	}
	late := time.NewTimer(wait)
	defer late.Stop()
	select {
	case <-d.ended:
		return true
	case <-late.C:
		return false
	}
}

// Execute runs a command of QMP; result, if not nil, gets what it returns. It has
// no other deadline than that of ctx. A refusal is a *CommandError.
func (d *Daemon) Execute(ctx context.Context, command string, arguments, result any) error {
	err := d.monitor.execute(ctx, command, arguments, result)
	if refused, ok := errors.AsType[*CommandError](err); ok {
		refused.Limit = d.command.Limits.exhausted(refused.Desc)
		return refused
	}
	return d.Explain(err)
}

// Do is Execute within CommandTime and without a result.
func (d *Daemon) Do(ctx context.Context, command string, arguments any) error {
	ctx, cancel := context.WithTimeoutCause(ctx, CommandTime, fmt.Errorf("%s has not done %s within %v: %w", d.command.Name, command, CommandTime, context.DeadlineExceeded))
	defer cancel()
	return d.Execute(ctx, command, arguments, nil)
}

// Job runs a command that begins a job of that id, and waits for its end, however
// long it takes.
func (d *Daemon) Job(ctx context.Context, id, command string, arguments any) error {
	if err := d.Do(ctx, command, arguments); err != nil {
		return err
	}
	var failed string
	err := d.monitor.await(ctx, func() (bool, error) {
		var jobs []struct{ ID, Status, Error string }
		err := d.monitor.execute(ctx, "query-jobs", nil, &jobs)
		for _, j := range jobs {
			if j.ID == id {
				failed = j.Error
				return j.Status == "concluded", err
			}
		}
		if err == nil {
			err = fmt.Errorf("%s has lost job %s", d.command.Name, id)
		}
		return false, err
	})
	if err != nil {
		return d.Explain(err)
	}
	err = d.Do(ctx, "job-dismiss", map[string]string{"id": id}) // a failed one too, so that its id is free
	if failed != "" {
		return &CommandError{Desc: failed}
	}
	return err
}

// Unexport takes back all exports, whose connections are closed.
func (d *Daemon) Unexport(ctx context.Context, ids ...string) error {
	for _, id := range ids {
		if err := d.Do(ctx, "block-export-del", map[string]string{"id": id, "mode": "hard"}); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, CommandTime)
	defer cancel()
	return d.Explain(d.monitor.await(ctx, func() (bool, error) {
		var exports []struct{}
		err := d.monitor.execute(ctx, "query-block-exports", nil, &exports)
		return len(exports) == 0, err
	}))
}

// LiftCPU takes away the limit of its processor time, which was for opening.
func (d *Daemon) LiftCPU() error { return liftCPU(d.cmd.Process.Pid) }

// Abandon ends it, if it has not ended, in whatever state, and reaps it.
func (d *Daemon) Abandon() {
	d.closed.Do(func() {
		d.Kill()
		d.Link.Close()
		d.end = d.err
	})
}

// Quit asks it to end, which closes what it has open, and reaps it. It says how that
// went, once and again.
func (d *Daemon) Quit(ctx context.Context) error {
	d.closed.Do(func() {
		defer d.Link.Close()
		defer d.Kill()
		ctx, cancel := context.WithTimeout(ctx, quitTime)
		defer cancel()
		asked := d.monitor.execute(ctx, "quit", nil, nil)
		if asked != nil && !d.gone(asked) {
			d.end = asked
			return
		}
		select {
		case <-d.ended:
			d.end = d.err
		case <-ctx.Done():
			d.end = fmt.Errorf("%s does not end: %w", d.command.Name, context.Cause(ctx))
		}
	})
	return d.end
}
