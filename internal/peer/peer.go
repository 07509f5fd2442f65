// Package peer knows who is at the other end of a unix socket, by the word of the
// kernel, and bounds how many connections one user holds. It knows no protocol:
// every front end has its callers and its refusals from here.
package peer

import (
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

	"storaged/internal/record"
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
	groups   []int // effective and supplementary
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
	return p, nil
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

func (p *Peer) role(s Socket) record.Role {
	switch {
	case s.ReadOnly:
		return record.ReaderRole
	case p.uid == 0 || p.uid == os.Geteuid():
		return record.RootRole
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
