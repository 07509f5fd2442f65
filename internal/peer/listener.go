package peer

import (
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"storaged/internal/record"
)

const (
	// MaxConnections bounds the connections that one user other than root and the
	// daemon's own holds at once, over all sockets. A read-only one is open
	// to everybody, and each connection costs the daemon a descriptor and some
	// 20 KiB.
	MaxConnections = 256

	// refusalTimeout bounds the write of a refusal into the empty buffer of a
	// new connection, which takes no time at all.
	refusalTimeout = 100 * time.Millisecond
)

// Connections counts connections by user. Its zero value counts from nothing, and
// may be shared by listeners.
type Connections struct {
	mu   sync.Mutex
	open map[int]int // by uid
}

// add reports whether the user may have one more, and counts it then.
func (c *Connections) add(uid int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open[uid] >= MaxConnections && uid != 0 && uid != os.Geteuid() {
		return false
	}
	if c.open == nil {
		c.open = map[int]int{}
	}
	c.open[uid]++
	return true
}

func (c *Connections) remove(uid int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open[uid]--; c.open[uid] <= 0 {
		delete(c.open, uid)
	}
}

// Listener is a listener on a unix socket that knows who connects, and refuses
// users who have too many connections.
type Listener struct {
	net.Listener
	Count *Connections
	// Refuse writes to a connection, whatever it would have asked, why it is
	// refused, in the protocol of the front end.
	Refuse func(net.Conn, *record.Error)
}

// Accept gives the next *Conn.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		u, ok := conn.(*net.UnixConn)
		if !ok {
			panic(fmt.Sprintf("internal error: peer: a listener gave a %T, which has no peer", conn))
		}
		p, err := Of(u)
		if err != nil { // it has gone already
			_ = u.Close()
			continue
		}
		if l.Count.add(p.uid) {
			return &Conn{UnixConn: u, Peer: p, count: l.Count}, nil
		}
		_ = u.SetWriteDeadline(time.Now().Add(refusalTimeout))
		l.Refuse(u, record.Errorf(record.QueueFull, "uid %d has %d connections open already", p.uid, MaxConnections))
		_ = u.Close()
	}
}

// Conn is a connection and who has made it.
type Conn struct {
	*net.UnixConn
	Peer   *Peer
	count  *Connections
	closed sync.Once
}

// PeerClosed reports whether the other end is closed. It takes nothing of what has
// come.
func (c *Conn) PeerClosed() bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return true
	}
	closed := false
	err = raw.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd)}}
		n, err := unix.Poll(p, 0)
		closed = err == nil && n > 0 && p[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0
	})
	return closed || err != nil
}

// Close closes the connection; the first call makes room for another.
func (c *Conn) Close() error {
	c.closed.Do(func() { c.count.remove(c.Peer.uid) })
	return c.UnixConn.Close()
}
