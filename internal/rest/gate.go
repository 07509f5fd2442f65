package rest

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"storaged/internal/record"
)

const (
	// maxConns bounds the connections that one user other than root and the
	// daemon's own holds at once, over both sockets. The read-only one is open
	// to everybody, and each connection costs the daemon a descriptor and some
	// 20 KiB.
	maxConns = 256

	// refusalTimeout bounds the write of a refusal into the empty buffer of a
	// new connection, which takes no time at all.
	refusalTimeout = 100 * time.Millisecond
)

// gate counts connections by user.
type gate struct {
	mu   sync.Mutex
	open map[int]int // by uid
}

// enter reports whether one more of the user may come in.
func (g *gate) enter(uid int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open[uid] >= maxConns && uid != 0 && uid != os.Geteuid() {
		return false
	}
	g.open[uid]++
	return true
}

func (g *gate) leave(uid int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open[uid]--; g.open[uid] <= 0 {
		delete(g.open, uid)
	}
}

// doorman is a listener that knows who comes and turns away those of whom too
// many are in.
type doorman struct {
	net.Listener
	gate *gate
}

// Accept gives the next *guest.
func (d *doorman) Accept() (net.Conn, error) {
	for {
		conn, err := d.Listener.Accept()
		if err != nil {
			return nil, err
		}
		u, ok := conn.(*net.UnixConn)
		if !ok {
			panic(fmt.Sprintf("internal error: api: a listener gave a %T, which has no peer", conn))
		}
		p, err := peerOf(u)
		if err != nil { // it has gone already
			_ = u.Close()
			continue
		}
		if d.gate.enter(p.uid) {
			return &guest{UnixConn: u, peer: p, gate: d.gate}, nil
		}
		turnAway(u, p.uid)
	}
}

// turnAway answers a connection, whatever it would have asked, and closes it.
func turnAway(u *net.UnixConn, uid int) {
	e := record.Errorf(record.QueueFull, "uid %d has %d connections open already", uid, maxConns)
	b, err := json.Marshal(e.Problem())
	if err != nil {
		panic("internal error: api: a problem cannot be JSON: " + err.Error())
	}
	_ = u.SetWriteDeadline(time.Now().Add(refusalTimeout))
	_, _ = fmt.Fprintf(u, "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %d\r\nRetry-After: %d\r\nConnection: close\r\n\r\n%s",
		http.StatusTooManyRequests, http.StatusText(http.StatusTooManyRequests), problemMIME, len(b),
		int(retryAfter[record.QueueFull].Seconds()), b)
	_ = u.Close()
}

// guest is a connection and who has made it.
type guest struct {
	*net.UnixConn
	peer *peer
	gate *gate
	left sync.Once
}

// gone reports whether the other end is closed. It takes nothing of what has
// come.
func (g *guest) gone() bool {
	raw, err := g.SyscallConn()
	if err != nil {
		return true
	}
	gone := false
	err = raw.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd)}}
		n, err := unix.Poll(p, 0)
		gone = err == nil && n > 0 && p[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0
	})
	return gone || err != nil
}

// Close closes the connection; the first call makes room for another.
func (g *guest) Close() error {
	g.left.Do(func() { g.gate.leave(g.peer.uid) })
	return g.UnixConn.Close()
}
