package main

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v2"

	"storaged/cmd/internal/cmdline"
	"storaged/internal/record"
	"storaged/internal/rest/client"
)

// choice is how the user named the daemon.
type choice struct {
	socket, env   string
	host, envHost string
	system, user  bool
	unattended    bool // nobody is to be asked for anything
}

func choiceOf(c *cli.Context) choice {
	all := c.Lineage() // from the verb up to the program, and nothing
	return choice{
		socket: c.String("socket"), env: os.Getenv("STORAGED_SOCKET"), host: all[len(all)-2].String("host"), envHost: os.Getenv("STORAGED_HOST"),
		system: c.Bool("system"), user: c.Bool("user"),
	}
}

// dial makes a client of the daemon that is chosen. With readOnly the read-only socket will
// do.
func (c choice) dial(ctx context.Context, readOnly bool) (*client.Client, error) {
	if n := count(c.socket != "", c.system, c.user, c.host != ""); n > 1 {
		return nil, cmdline.Usagef("--host, --socket, --system and --user exclude each other")
	}
	if name := cmp.Or(c.host, c.envHost); name != "" && (c.host != "" || !c.system && !c.user && c.socket == "") {
		h, err := parseHost(name)
		if err != nil {
			return nil, err
		}
		h.unattended = c.unattended
		return client.Over(h.String(), func(ctx context.Context) (net.Conn, error) { return h.dial(ctx, readOnly) }), nil
	}
	return client.Dial(chooseSocket(c, os.Getuid()).pick(ctx, readOnly)), nil
}

// socket is the one to use, and the read-only one beside it, "" without.
type socket struct{ path, readOnly string }

// chooseSocket takes the first of these that is given: --socket, STORAGED_SOCKET,
// --system or --user, and else root takes the system's daemon and others
// their own if its socket exists.
func chooseSocket(c choice, uid int) socket {
	switch {
	case c.socket != "":
		return socket{path: c.socket}
	case c.system:
		return systemSocket()
	case c.user:
		return socket{path: userSocket()}
	case c.env != "":
		return socket{path: c.env}
	case uid == 0:
		return systemSocket()
	}
	if own := userSocket(); exists(own) {
		return socket{path: own}
	}
	return systemSocket()
}

// unreached says to who has no daemon how to have one: root's is the system's, and
// somebody who named a socket knows where it is.
func unreached(c choice, uid int, err error) error {
	own := c.user || uid != 0 && !c.system && c.socket == "" && c.env == "" && c.host == "" && c.envHost == ""
	e, ok := errors.AsType[*record.Error](err)
	if !ok || !own || cmdline.Hint(e.Hint) != client.NoDaemonHint || exists(userSocket()) {
		return err // what else there is to do is said already
	}
	return e.WithHint("storaged & starts one of your own; storagedctl --socket PATH asks another")
}

func systemSocket() socket {
	return socket{path: "/run/storaged/storaged.sock", readOnly: "/run/storaged/storaged-ro.sock"}
}

// userSocket is the one of a session's daemon, by the XDG base directories.
// Without XDG_RUNTIME_DIR it lies below the state directory.
func userSocket() string {
	state := filepath.Join(xdg("XDG_STATE_HOME", filepath.Join(os.Getenv("HOME"), ".local/state")), "storaged")
	return filepath.Join(xdg("XDG_RUNTIME_DIR", filepath.Join(state, "run")), "storaged", "storaged.sock")
}

// xdg gives a base directory; a relative one is ignored, as the standard says.
func xdg(name, fallback string) string {
	if dir := os.Getenv(name); filepath.IsAbs(dir) {
		return dir
	}
	return fallback
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func count(facts ...bool) int {
	n := 0
	for _, f := range facts {
		if f {
			n++
		}
	}
	return n
}

// knockTimeout bounds the try whether a socket lets us in.
const knockTimeout = 2 * time.Second

// pick gives the path to use: for a reading verb that may not use the main
// socket, the read-only one.
func (s socket) pick(ctx context.Context, readOnly bool) string {
	if !readOnly || s.readOnly == "" {
		return s.path
	}
	if err := knock(ctx, s.path); errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
		if knock(ctx, s.readOnly) == nil {
			return s.readOnly
		}
	}
	return s.path
}

func knock(ctx context.Context, path string) error {
	d := net.Dialer{Timeout: knockTimeout}
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return err
	}
	return conn.Close()
}
