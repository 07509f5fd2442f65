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
	"strings"
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
type host struct{ user, name, port, socket string }

// hostForms are what parts of a host may be, lest one is an option of ssh.
var hostForms = map[string]*regexp.Regexp{
	"host": regexp.MustCompile(`^[A-Za-z0-9_:][A-Za-z0-9_.:%-]*$`),
	"user": regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.@\\-]*$|^$`),
}

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
	h := &host{user: u.User.Username(), name: u.Hostname(), port: u.Port(), socket: u.Path}
	_, password := u.User.Password()
	switch {
	case u.Scheme != "ssh":
		return nil, cmdline.Usagef("--host %q: only ssh:// is known", text)
	case password:
		return nil, cmdline.Usagef("--host has a password, which others could read: ssh asks for it")
	case u.RawQuery != "" || u.Fragment != "" || !hostForms["host"].MatchString(h.name) || !hostForms["user"].MatchString(h.user):
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

func (h *host) String() string {
	u := url.URL{Scheme: "ssh", Host: h.name, Path: h.socket}
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
func (h *host) dial(ctx context.Context, readOnly bool) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, greetTimeout)
	defer cancel()
	c, err := h.start(readOnly)
	if err != nil {
		return nil, record.Errorf(record.Unreachable, "cannot run ssh for host %q: %v", h.name, err).WithHint("ssh(1) is in package openssh-client (Debian) or openssh-clients (Fedora)")
	}
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
	if err = c.greeted(); err == nil {
		return c, nil
	}
	said := c.lastWords()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return nil, h.refusal(said, err)
}

// start starts ssh with its standard streams on a socket of ours.
func (h *host) start(readOnly bool) (*sshConn, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	errs, err := memory("ssh")
	if err != nil {
		ours.Close()
		return nil, err
	}
	cmd := &exec.Cmd{Path: self, Args: append([]string{overSSH}, h.argv(readOnly)...), Stdin: theirs, Stdout: theirs, Stderr: errs}
	if err := cmd.Start(); err != nil {
		ours.Close()
		errs.Close()
		return nil, err
	}
	c := &sshConn{Conn: ours, ssh: cmd.Process, errs: errs, ended: make(chan struct{})}
	go func() {
		defer close(c.ended)
		_ = cmd.Wait() // how it ends does not matter
	}()
	return c, nil
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
	if strings.Contains(last, "not found") {
		return e.WithHint("the command line of storaged is to be there too, in the PATH that ssh gives to commands")
	}
	return e.WithHint("try: ssh %s storagedctl status", strings.TrimPrefix(h.String(), "ssh://"))
}

// sshConn is a connection that ssh carries.
type sshConn struct {
	net.Conn
	ssh   *os.Process
	ended chan struct{} // closed when ssh has ended
	errs  *os.File      // what was said on stderr; no pipe, lest a master connection of ssh keeps us waiting for its end
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
	_ = c.ssh.Kill() // it may have ended
	<-c.ended
	c.errs.Close()
	return err
}

// lastWords closes a connection that has come to nothing, and gives the end of what was
// said on stderr.
func (c *sshConn) lastWords() string {
	const most = 4096 // bytes
	c.Conn.Close()
	select {
	case <-c.ended: // when it has said all
	case <-time.After(wordsTimeout):
	}
	b, _ := io.ReadAll(io.NewSectionReader(c.errs, 0, 1<<20)) // memory of ours
	c.Close()
	return string(b[max(0, len(b)-most):])
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

// memory gives a file that is nowhere.
func memory(name string) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// overSSH is what this program is started as to become ssh, deaf to the keys that are meant
// for us: the first Ctrl-C cancels a job, for which the connection is needed. ssh still asks
// at the terminal for what it needs to know.
const overSSH = "storagedctl-over-ssh"

func becomeSSH(args []string) error {
	signal.Ignore(unix.SIGINT, unix.SIGQUIT)
	path, err := exec.LookPath("ssh")
	if err != nil {
		return err
	}
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
