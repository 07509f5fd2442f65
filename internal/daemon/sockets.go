package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"

	"storaged/internal/record"
)

// Names by which the service manager hands sockets over (FileDescriptorName=).
const (
	nameMain      = "storaged"
	nameRO        = "storaged-ro"
	nameLibvirt   = "storaged-libvirt"
	nameLibvirtRO = "storaged-libvirt-ro"
	nameStandIn   = "storaged-takeover"
	nameStandInRO = "storaged-takeover-ro"
)

// probeTimeout bounds the question whether a socket in our place is alive: a
// local connect is immediate, or its listener is stuck and as good as dead.
const probeTimeout = time.Second

// sockets are those that the daemon listens on: two of its own, and for libvirt's clients
// and where libvirt's own daemon would have them those that are wanted, or nil.
type sockets struct {
	main, ro           net.Listener
	libvirt, libvirtRO net.Listener
	standIn, standInRO net.Listener
	driver             io.Closer // libvirt's, in whose place the daemon is; nil: it is not
}

func (s sockets) close() error {
	var errs []error
	for _, l := range []net.Listener{s.main, s.ro, s.libvirt, s.libvirtRO, s.standIn, s.standInRO} {
		if l != nil {
			errs = append(errs, l.Close())
		}
	}
	return errors.Join(append(errs, s.leaveDriver())...)
}

// leaveDriver gives libvirt its place back.
func (s sockets) leaveDriver() error {
	if s.driver == nil {
		return nil
	}
	return s.driver.Close()
}

// standsIn reports whether the service manager wants the daemon in the place of libvirt's.
func (s sockets) standsIn() bool { return s.standIn != nil || s.standInRO != nil }

// standInFor takes the place of libvirt's own daemon.
func (s *sockets) standInFor(c Config, mode os.FileMode) (err error) {
	s.driver, err = claimDriver(c.Libvirt.RunDir)
	if err == nil && !s.standsIn() {
		s.standIn, s.standInRO, err = listenTwo(c, mode, filepath.Join(c.Libvirt.RunDir, virtstoraged), filepath.Join(c.Libvirt.RunDir, virtstoragedRO))
	}
	return err
}

// activated takes the sockets of the service manager, if there is one that has any.
func activated() (sockets, error) {
	given, err := activation.ListenersWithNames()
	if err != nil {
		return sockets{}, fmt.Errorf("cannot take the service manager's sockets: %w", err)
	}
	s := sockets{
		main: only(given[nameMain]), ro: only(given[nameRO]), libvirt: only(given[nameLibvirt]), libvirtRO: only(given[nameLibvirtRO]),
		standIn: only(given[nameStandIn]), standInRO: only(given[nameStandInRO]),
	}
	if len(given) > 0 && (s.main == nil || s.ro == nil) {
		return s, record.Errorf(record.Invalid, "the service manager must hand over one socket %q and one %q", nameMain, nameRO)
	}
	return s, nil
}

// listen makes the sockets that are missing. Where the service manager has sockets, its
// units say which there are for libvirt's clients. Where those are asked who they are,
// everybody may connect. It is called under the state directory's lock.
func (s sockets) listen(c Config, asked bool) (sockets, error) {
	var err error
	const group, everybody os.FileMode = 0o660, 0o666
	libvirts := group
	if asked {
		libvirts = everybody
	}
	if s.main == nil {
		s.main, s.ro, err = listenTwo(c, group, c.Socket, c.SocketRO)
		if err == nil && c.Libvirt.Listen {
			s.libvirt, s.libvirtRO, err = listenTwo(c, libvirts, c.Libvirt.Socket, c.Libvirt.SocketRO)
		}
	}
	if err == nil && (c.Libvirt.Takeover || s.standsIn()) {
		err = s.standInFor(c, libvirts)
	}
	if err != nil {
		return sockets{}, errors.Join(err, s.close())
	}
	return s, nil
}

// only is the one that there is, or nil.
func only(all []net.Listener) net.Listener {
	if len(all) != 1 {
		return nil
	}
	return all[0]
}

// listenTwo makes a socket of a mode for the group, and one for reading, for everybody.
// Those of a user's own daemon are that user's alone.
func listenTwo(c Config, mainMode os.FileMode, path, pathRO string) (main, ro net.Listener, err error) {
	roMode := os.FileMode(0o666)
	if os.Geteuid() != 0 {
		mainMode, roMode = 0o600, 0o600
	}
	if ro, err = listenAt(pathRO, roMode); err != nil {
		return nil, nil, err
	}
	if main, err = listenAt(path, mainMode); err == nil {
		err = ownSocket(c, path)
	}
	if err != nil {
		return nil, nil, errors.Join(err, sockets{main: main, ro: ro}.close()) // nobody has used them
	}
	return main, ro, nil
}

// listenAt makes a socket of the given mode, replacing one that nobody serves.
// Until it has its mode it is nobody else's.
func listenAt(path string, mode os.FileMode) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, denied(fmt.Errorf("cannot make socket %q: %w", path, err))
	}
	if err := clearStale(path); err != nil {
		return nil, err
	}
	private := net.ListenConfig{Control: ownerOnly}
	l, err := private.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, denied(fmt.Errorf("cannot make socket: %w", err))
	}
	if err := os.Chmod(path, mode); err != nil {
		l.Close()
		return nil, fmt.Errorf("cannot make socket: %w", err)
	}
	return l, nil
}

// ownerOnly narrows the mode that bind(2) gives a socket's name. The umask would
// do so too, and to every file that jobs found at start make meanwhile.
func ownerOnly(_, _ string, c syscall.RawConn) error {
	var err error
	failed := c.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), 0o600) })
	return errors.Join(failed, err)
}

func clearStale(path string) error {
	st, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot make socket: %w", err)
	}
	if st.Mode().Type() != os.ModeSocket {
		return record.Errorf(record.Exists, "%q is there and is no socket", path).WithHint("--socket PATH")
	}
	if conn, err := net.DialTimeout("unix", path, probeTimeout); err == nil {
		conn.Close()
		return record.Errorf(record.Busy, "another daemon answers on %q", path).WithHint("--socket PATH, or stop it")
	}
	return os.Remove(path)
}

// ownSocket gives a socket to the group, where the host has it.
func ownSocket(c Config, path string) error {
	gid, err := groupOf(c)
	if gid == nil || err != nil {
		return err
	}
	if err := os.Chown(path, 0, *gid); err != nil {
		return fmt.Errorf("cannot give the socket to group %q: %w", c.Group, err)
	}
	return nil
}

// groupOf gives the gid of the main socket's members; nil in session mode, and
// where the host does not have the group that nobody asked for: then the socket is
// root's alone.
func groupOf(c Config) (*int, error) {
	if os.Geteuid() != 0 || c.Group == "" {
		return nil, nil
	}
	g, err := user.LookupGroup(c.Group)
	if err != nil {
		return nil, c.groupless(err)
	}
	gid, err := strconv.Atoi(g.Gid)
	if err != nil {
		return nil, fmt.Errorf("group %q has the id %q: %w", c.Group, g.Gid, err)
	}
	return &gid, nil
}

// groupless refuses to do without a group that somebody asked for, which could not be
// looked up. Nothing is said of one that nobody did, whatever the cause: a host need have
// no list of groups at all.
func (c *Config) groupless(cause error) error {
	if !c.isSet("group") {
		return nil
	}
	why := "this host has no such group"
	if _, unknown := errors.AsType[user.UnknownGroupError](cause); !unknown {
		why = "it cannot be looked up: " + cause.Error()
	}
	return record.Setting("group", record.Errorf(record.Invalid, "group is %q, and %s", c.Group, why).
		WithHint("getent group lists those there are; group = \"\" leaves the socket to root"))
}
