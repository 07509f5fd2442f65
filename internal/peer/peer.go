// Package peer knows who is at the other end of a unix socket, by the word of the
// kernel, and bounds how many connections one user holds. It knows no protocol:
// every front end has its callers and its refusals from here.
package peer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"storaged/internal/polkit"
	"storaged/internal/record"
	"storaged/internal/supervisor/process"
)

// noLoginUID is what the kernel gives for a process outside of any login
// session, (uid_t)-1.
const noLoginUID = "4294967295"

// Peer is the process at the other end of a connection. uid, pid and groups are
// the kernel's word (SO_PEERCRED and SO_PEERGROUPS, unix(7) and socket(7)); login user and command come from /proc
// and are for people only: the process chooses its command, and its number may
// have passed to another when it has gone.
type Peer struct {
	uid, pid int
	groups   []int  // effective and supplementary
	start    uint64 // of the process, ticks since boot; 0: it has gone
	loginUID string
	command  string
	named    sync.Once
	owner    record.Owner
}

// Of asks who has connected. It runs in the loop that accepts, and so asks
// nothing that could hang.
func Of(u *net.UnixConn) (*Peer, error) {
	raw, err := u.SyscallConn()
	if err != nil {
		return nil, err
	}
	var cred *unix.Ucred
	var groups []int
	var credErr, groupErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		groups, groupErr = peerGroups(fd)
	})
	if err := errors.Join(err, credErr, groupErr); err != nil {
		return nil, err
	}
	p := &Peer{uid: int(cred.Uid), pid: int(cred.Pid), groups: append(groups, int(cred.Gid))}
	p.loginUID = procFile(p.pid, "loginuid")
	p.command = command(p.pid)
	return p, raw.Control(func(fd uintptr) { p.start = startOf(int(fd), p.pid) })
}

// startOf gives when the process that has connected was started, 0 if it has gone. Its
// number may be another's by now: the kernel is asked whether it is still there
// afterwards, where it can say that (SO_PEERPIDFD, Linux 6.5).
func startOf(socket, pid int) uint64 {
	ticks, err := process.Ticks(pid)
	if err != nil {
		return 0
	}
	pidfd, err := unix.GetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_PEERPIDFD)
	if errors.Is(err, unix.ENOPROTOOPT) {
		return ticks
	}
	if err != nil {
		return 0
	}
	defer unix.Close(pidfd) // nothing was written to it
	ended := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	if n, err := unix.Poll(ended, 0); n != 0 || err != nil {
		return 0
	}
	return ticks
}

// command is the name of a process, "" when it has gone.
func command(pid int) string { return printable(procFile(pid, "comm")) }

// OwnerOf describes a process for which another, that is trusted, has connected.
func OwnerOf(uid, pid int, via string) record.Owner {
	return record.Owner{UID: uid, User: userName(strconv.Itoa(uid)), PID: pid, Command: command(pid), Via: via}
}

// maxGroups is NGROUPS_MAX of Linux (limits.h).
const maxGroups = 65536

// peerGroups gives the supplementary groups of who has connected.
func peerGroups(fd uintptr) ([]int, error) {
	for n := uint32(64); ; n = maxGroups {
		gids := make([]uint32, n)
		size := 4 * n
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&gids[0])), uintptr(unsafe.Pointer(&size)), 0)
		switch {
		case errno == unix.ERANGE && n < maxGroups:
			continue
		case errno != 0:
			return nil, fmt.Errorf("cannot ask for a peer's groups: %w", errno)
		}
		out := make([]int, 0, size/4)
		for _, g := range gids[:size/4] {
			out = append(out, int(g))
		}
		return out, nil
	}
}

// procFile reads a one-line file of a process, "" when it has gone.
func procFile(pid int, name string) string {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/" + name)
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(string(b), "\n")
}

// printable escapes what cannot be shown as it is. The kernel keeps a command
// name under 16 bytes.
func printable(s string) string {
	q := strconv.QuoteToGraphic(s)
	return q[1 : len(q)-1]
}

// Socket is what a front end says of the socket that a peer came through.
type Socket struct {
	Via      string // the front end, as records of jobs name it
	ReadOnly bool
	Group    *int // gid of its members; nil: whoever may open it

	// Authority decides about all but root and members; nil: nobody does. It lets those
	// in who may do Action.
	Authority *polkit.Authority
	Action    string
}

// Stranger reports whether the authority has to let the peer in.
func (p *Peer) Stranger(s Socket) bool {
	return s.Authority != nil && !p.root() && (s.Group == nil || !slices.Contains(p.groups, *s.Group))
}

// Admit has the authority let the peer in, and gives its role then. On a socket for
// writing it is a Member who is asked about with each action. The error is that of
// polkit.Authority.Check.
func (p *Peer) Admit(ctx context.Context, s Socket) (record.Caller, error) {
	ask := func(ctx context.Context, action string) error {
		if p.start == 0 {
			return errors.New("the process that has connected is gone")
		}
		return s.Authority.Check(ctx, polkit.Subject{PID: p.pid, UID: p.uid, Start: p.start}, action)
	}
	if err := ask(ctx, s.Action); err != nil {
		return record.Caller{}, err
	}
	c := p.Caller(s)
	if !s.ReadOnly {
		c.Role = record.MemberRole
		c.Ask = func(ctx context.Context, a record.Action) error {
			if err := ask(ctx, string(a)); err != nil {
				return record.Errorf(record.Denied, "%s may not do this (%s): %v", c.Owner.User, a, err).
					WithHint("a rule of polkit allows it, or the group of the main socket")
			}
			return nil
		}
	}
	return c, nil
}

// Caller gives the peer's role on a socket. Names are looked up once, with the
// first request.
func (p *Peer) Caller(s Socket) record.Caller {
	p.named.Do(func() {
		p.owner = record.Owner{UID: p.uid, User: userName(strconv.Itoa(p.uid)), PID: p.pid, Command: p.command}
		if p.loginUID != "" && p.loginUID != noLoginUID {
			p.owner.LoginUser = userName(p.loginUID)
		}
	})
	owner := p.owner
	owner.Via = s.Via
	return record.Caller{Owner: owner, Role: p.role(s)}
}

func (p *Peer) root() bool { return p.uid == 0 || p.uid == os.Geteuid() }

func (p *Peer) role(s Socket) record.Role {
	switch {
	case s.ReadOnly:
		return record.ReaderRole
	case p.root():
		return record.RootRole
	case p.Stranger(s):
		return record.UserRole
	case s.Group != nil && !slices.Contains(p.groups, *s.Group):
		return record.UserRole
	}
	return record.MemberRole
}

// userName gives the name of a uid, or the number as ls does.
func userName(uid string) string {
	u, err := user.LookupId(uid)
	if err != nil {
		return uid
	}
	return u.Username
}
