package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"storaged/cmd/internal/cmdline"
	"storaged/internal/record"
	"storaged/internal/term"
)

// A daemon of another host is reached through ssh(1), so that who may use it, by which key
// and over which way is settled where everybody looks for it: ssh_config(5) and the
// accounts of that host. There "storagedctl dial-stdio" carries the bytes to the socket.

// host is one whose daemon is reached so.
type host struct {
	user, name, port, socket string
	unattended               bool // nobody is there to be asked for anything, and none to wait
}

// What parts of a host may be, lest one is an option of ssh.
var (
	hostName = regexp.MustCompile(`^[A-Za-z0-9_:][A-Za-z0-9_.:%-]*$`)
	hostUser = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.@\\-]*$|^$`)
)

// parseHost reads [ssh://][USER@]HOST[:PORT][/SOCKET]. HOST may be any that ssh_config(5)
// has; SOCKET is the daemon's there.
func parseHost(text string) (*host, error) {
	full := text
	if !strings.Contains(text, "://") {
		full = "ssh://" + text
	}
	u, err := url.Parse(full)
	if err != nil {
		return nil, cmdline.Usagef("--host %q is no address: %v", text, cause(err))
	}
	h := &host{user: u.User.Username(), name: u.Hostname(), port: u.Port(), socket: strings.TrimSuffix(u.Path, "/")}
	_, password := u.User.Password()
	switch {
	case u.Scheme != "ssh":
		return nil, cmdline.Usagef("--host %q: only ssh:// is known", text)
	case password:
		return nil, cmdline.Usagef("--host has a password, which others could read: ssh asks for it")
	case strings.ContainsRune(h.socket, 0) || u.RawQuery != "" || u.Fragment != "" || !hostName.MatchString(h.name) || !hostUser.MatchString(h.user):
		return nil, cmdline.Usagef("--host %q is not [ssh://][USER@]HOST[:PORT]", text)
	}
	return h, nil
}

// cause leaves out of an error of url.Parse what was parsed.
func cause(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

func (h *host) String() string { return h.account() + h.socket }

// account is where ssh logs in to, in a form that it takes.
func (h *host) account() string {
	u := url.URL{Scheme: "ssh", Host: h.name}
	if strings.Contains(h.name, ":") {
		u.Host = "[" + h.name + "]"
	}
	if h.port != "" {
		u.Host += ":" + h.port
	}
	if h.user != "" {
		u.User = url.User(h.user)
	}
	return u.String()
}

const (
	// aliveSeconds is how often ssh asks for a sign of life, and three of which missing end
	// it: a link that was cut is to be noticed before people do.
	aliveSeconds = 15
	// greetTimeout is how long the way to a daemon may take: somebody may be asked for the
	// passphrase of a key meanwhile.
	greetTimeout = 2 * time.Minute
	// byeTimeout is how long ssh may take to end by itself: it gives back a terminal that it
	// asks at, and other connections that it carries.
	byeTimeout = time.Second
	// readTimeout is how long what has been said on stderr may take to be read.
	readTimeout = 100 * time.Millisecond
	// wordsTimeout is how long ssh may take to end that has closed the connection.
	wordsTimeout = 5 * time.Second
	// maxGreeting bounds what a shell may say before dial-stdio does, bytes.
	maxGreeting = 64 << 10
)

// greeting is what dial-stdio says when it has reached the daemon. Whatever a login shell
// says comes before it, and the daemon says nothing before it is asked.
const greeting = "\nstoraged dial-stdio 1\n"

// argv is the command that connects to the daemon.
func (h *host) argv(readOnly bool) []string {
	far := "storagedctl -o json"
	if h.socket != "" {
		far += " --socket '" + strings.ReplaceAll(h.socket, "'", `'\''`) + "'" // for the shell of the account
	}
	far += " dial-stdio"
	if readOnly {
		far += " --read-only"
	}
	argv := []string{"-T", "-x", "-a", "-e", "none", "-o", fmt.Sprint("ServerAliveInterval=", aliveSeconds)}
	for _, o := range []string{"ClearAllForwardings=yes", "RemoteCommand=none", "PermitLocalCommand=no"} { // they are for people who log in
		argv = append(argv, "-o", o)
	}
	if h.unattended {
		argv = append(argv, "-o", "BatchMode=yes", "-o", "ConnectTimeout=1")
	}
	if h.port != "" {
		argv = append(argv, "-p", h.port)
	}
	if h.user != "" {
		argv = append(argv, "-l", h.user)
	}
	return append(argv, "--", h.name, far)
}

// dial connects to the daemon of the host. What ssh or the other side say against it is a
// *record.Error.
func (h *host) dial(asked context.Context, readOnly bool) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(asked, greetTimeout)
	defer cancel()
	c, err := h.start(readOnly)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	if err = c.greeted(); stop() && err == nil {
		return c, nil
	}
	if err == nil {
		err = ctx.Err()
	}
	said := c.lastWords()
	if asked.Err() != nil {
		return nil, asked.Err()
	}
	return nil, h.refusal(said, err)
}

// start starts ssh with its standard streams on a socket of ours.
func (h *host) start(readOnly bool) (*sshConn, error) {
	path, err := exec.LookPath("ssh")
	if err != nil {
		return nil, record.Errorf(record.Unreachable, "cannot reach host %q: there is no ssh here", h.name).WithHint("it is in package openssh-client (Debian) or openssh-clients (Fedora)")
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	errs, said, err := os.Pipe()
	if err != nil {
		ours.Close()
		return nil, err
	}
	defer said.Close()
	c := &sshConn{Conn: ours, ended: make(chan struct{}), errs: errs, heard: make(chan struct{})}
	cmd := &exec.Cmd{
		Path: self, Args: append([]string{overSSH, path}, h.argv(readOnly)...), Stdin: theirs, Stdout: theirs, Stderr: said,
		SysProcAttr: &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}, // it asks nobody for a key when we are gone
	}
	if err := c.run(cmd); err != nil {
		ours.Close()
		errs.Close()
		return nil, err
	}
	go c.hear()
	return c, nil
}

// run starts ssh. The signal of Pdeathsig comes when the thread is gone that has started it
// (golang/go#27505), so that this one stays until ssh has ended.
func (c *sshConn) run(cmd *exec.Cmd) error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		c.ssh = cmd.Process
		started <- err
		if err == nil {
			defer close(c.ended)
			_ = cmd.Wait() // how it ends does not matter
		}
	}()
	return <-started
}

// refusal is why there is no connection, by what was said on the other side's stderr.
func (h *host) refusal(said string, err error) error {
	lines := strings.Split(strings.TrimSpace(said), "\n")
	last := lines[len(lines)-1]
	var p record.Problem
	if json.Unmarshal([]byte(last), &p) == nil && p.Code != "" {
		e := p.Error()
		e.Message = fmt.Sprintf("on host %q: %s", h.name, e.Message)
		return e
	}
	e := record.Errorf(record.Unreachable, "cannot reach the daemon of host %q: %s", h.name, cmp.Or(term.Escape(last), err.Error()))
	if strings.Contains(last, "Permission denied (") {
		e.Code = record.Denied // to ask again changes nothing
	}
	if strings.Contains(last, "not found") {
		return e.WithHint("the command line of storaged is to be there too, in the PATH that ssh gives to commands")
	}
	return e.WithHint("try: ssh %s storagedctl status", h.account())
}

// sshConn is a connection that ssh carries.
type sshConn struct {
	net.Conn
	ssh   *os.Process
	ended chan struct{} // closed when ssh has ended
	errs  *os.File      // its stderr
	heard chan struct{} // closed when nothing more is read of that
	words []byte        // the end of what was said there; valid then
}

// hear reads what is said on stderr, and keeps the end of it. A master connection of ssh
// may have it open for longer than we live.
func (c *sshConn) hear() {
	defer close(c.heard)
	const most = 4096 // bytes
	b := make([]byte, most)
	for {
		n, err := c.errs.Read(b)
		c.words = append(c.words, b[:n]...)
		c.words = slices.Clone(c.words[max(0, len(c.words)-most):])
		if err != nil {
			return
		}
	}
}

// greeted waits for the greeting.
func (c *sshConn) greeted() error {
	var said []byte
	for len(said) < maxGreeting {
		b := make([]byte, 4096)
		n, err := c.Read(b)
		if said = append(said, b[:n]...); bytes.HasSuffix(said, []byte(greeting)) {
			return nil
		}
		if err == io.EOF {
			return fmt.Errorf("ssh has ended")
		}
		if err != nil {
			return err
		}
	}
	return fmt.Errorf("the other side says much, and nothing of storaged")
}

// Close ends ssh too.
func (c *sshConn) Close() error {
	err := c.Conn.Close()
	_ = c.ssh.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-c.ended:
	case <-time.After(byeTimeout):
		_ = c.ssh.Kill()
		<-c.ended
	}
	c.errs.Close()
	<-c.heard
	return err
}

// lastWords closes a connection that has come to nothing, and gives the end of what was
// said on stderr.
func (c *sshConn) lastWords() string {
	c.Conn.Close()
	select {
	case <-c.ended: // when it has said all
	case <-time.After(wordsTimeout):
	}
	_ = c.errs.SetReadDeadline(time.Now().Add(readTimeout)) // pipes take one
	<-c.heard
	c.Close()
	return string(c.words)
}

// socketPair gives a connection, and the other end of it for a child.
func socketPair() (ours net.Conn, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	own := os.NewFile(uintptr(fds[0]), "ssh")
	defer own.Close() // FileConn has a copy
	theirs = os.NewFile(uintptr(fds[1]), "ssh")
	if ours, err = net.FileConn(own); err != nil {
		theirs.Close()
	}
	return ours, theirs, err
}

// overSSH is what this program is started as to become ssh, deaf to the keys that are meant
// for us: the first Ctrl-C cancels a job, for which the connection is needed. ssh still asks
// at the terminal for what it needs to know.
const overSSH = "storagedctl-over-ssh"

func becomeSSH(path string, args []string) error {
	signal.Ignore(unix.SIGINT, unix.SIGQUIT)
	return unix.Exec(path, append([]string{"ssh"}, args...), os.Environ())
}

func (t *tool) dialStdioCommand() *cli.Command {
	return &cli.Command{
		Name: "dial-stdio", Hidden: true, Usage: "carry a connection to the daemon over standard input and output, for --host",
		Flags:  []cli.Flag{&cli.BoolFlag{Name: "read-only", Usage: "the read-only socket will do"}},
		Action: t.dialStdio,
	}
}

// dialStdio carries a connection, until the daemon or the client ends it. The daemon is of
// this host, whatever the environment says: else it could be asked for in a circle.
func (t *tool) dialStdio(c *cli.Context) error {
	to := choiceOf(c)
	to.host, to.envHost = "", ""
	daemon, err := to.dial(c.Context, c.Bool("read-only"))
	if err != nil {
		return err
	}
	conn, err := daemon.Connect(c.Context)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := io.WriteString(t.out, greeting); err != nil {
		return err
	}
	go func() { // ends with the process: nothing else ends the reading of standard input
		if _, err := io.Copy(conn, t.in); err == nil { // else the daemon has refused what it did not read, and says so
			conn.Close()
		}
	}()
	if _, err = io.Copy(t.out, conn); errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
