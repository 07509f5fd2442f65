package api

import (
	"context"
	"net"
	"os"
	"os/user"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"storaged/internal/record"
)

// noLoginUID is what the kernel gives for a process outside of any login
// session, (uid_t)-1.
const noLoginUID = "4294967295"

// peer is the process at the other end of a connection. uid and pid are the
// kernel's word (SO_PEERCRED, unix(7)); login user and command come from /proc
// and are for people only: the process chooses its command, and its number may
// have passed to another when it has gone.
type peer struct {
	uid, pid int
	loginUID string
	command  string
	name     sync.Once
	owner    record.Owner
}

type peerKey struct{}

// connContext notes who has connected, as a http.Server's ConnContext.
func connContext(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, peerKey{}, c.(*guest).peer)
}

// peerOf asks who has connected. It runs in the loop that accepts, and so asks
// nothing that could hang.
func peerOf(u *net.UnixConn) (*peer, error) {
	raw, err := u.SyscallConn()
	if err != nil {
		return nil, err
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err != nil {
		return nil, err
	}
	if credErr != nil {
		return nil, credErr
	}
	p := &peer{uid: int(cred.Uid), pid: int(cred.Pid)}
	p.loginUID = procFile(p.pid, "loginuid")
	p.command = printable(procFile(p.pid, "comm"))
	return p, nil
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

// caller gives the peer's role on a socket. Names are looked up once, with the
// first request.
func (p *peer) caller(readOnly bool) Caller {
	p.name.Do(func() {
		p.owner = record.Owner{UID: p.uid, User: userName(strconv.Itoa(p.uid)), PID: p.pid, Command: p.command, Via: "rest"}
		if p.loginUID != "" && p.loginUID != noLoginUID {
			p.owner.LoginUser = userName(p.loginUID)
		}
	})
	switch {
	case readOnly:
		return Caller{Owner: p.owner, Role: Reader}
	case p.uid == 0 || p.uid == os.Geteuid():
		return Caller{Owner: p.owner, Role: Root}
	}
	return Caller{Owner: p.owner, Role: Member}
}

// userName gives the name of a uid, or the number as ls does.
func userName(uid string) string {
	u, err := user.LookupId(uid)
	if err != nil {
		return uid
	}
	return u.Username
}
