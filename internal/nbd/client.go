package nbd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"storaged/internal/diskio"
)

const (
	// mostBytes is what one request moves: as much as a call of a transfer. Smaller
	// ones, several of which are under way for a call, cost more of the processor and
	// are no faster.
	mostBytes = diskio.ChunkBytes
	// callers is how many calls make a server busiest.
	callers = 4
	// zeroBytes is what one request zeroes or discards. It is a multiple of every
	// cluster.
	zeroBytes = 1 << 30
	// goodbye bounds the wait for a server that takes no more: it is not waited for
	// on a connection that ends anyway.
	goodbye = 100 * time.Millisecond
)

// Export is what a client connects to.
type Export struct {
	Name string
	// Twins is how many exports have the same content, each with a number behind its
	// name but for the first. The connections lead to one after the other. 0 is 1.
	Twins int
	// Granularity is the unit in which it gives storage back, in bytes: the cluster
	// of an image. The protocol does not say it. 0 is a usual block.
	Granularity int64
	// Depths asks for a map of the layers of a chain, too.
	Depths bool
}

// Of is the name of the export that a connection leads to.
func (e Export) Of(connection int) string {
	if twin := connection % max(e.Twins, 1); twin > 0 {
		return fmt.Sprintf("%s%d", e.Name, twin)
	}
	return e.Name
}

// Client is a content that a server has. Its methods may be called by several
// goroutines at once; Close ends what waits, with an error.
type Client struct {
	export      Export
	terms       terms
	connections []*connection
	turn        atomic.Uint32 // of the connections
	memory      memory
	readers     sync.WaitGroup

	mu      sync.Mutex
	err     error // the end, and why
	flushed error // the first of a flush
}

var (
	_ diskio.Content   = (*Client)(nil)
	_ diskio.Parallel  = (*Client)(nil)
	_ diskio.Granular  = (*Client)(nil)
	_ diskio.Discarder = (*Client)(nil)
)

// ErrClosed says that a client was closed.
var ErrClosed = errors.New("the NBD client was closed")

// Connect negotiates and takes the connections over, to close them in the end, also
// if it fails. More than one is used where the server can keep several in order:
// where it says so, or where nothing can be written. The context ends with Connect.
func Connect(ctx context.Context, conns []net.Conn, export Export) (*Client, error) {
	stop := context.AfterFunc(ctx, func() { closeAll(conns) })
	c, err := connect(conns, export)
	if !stop() {
		err = errors.Join(context.Cause(ctx), err)
	}
	if err != nil {
		closeAll(conns)
		return nil, err
	}
	for _, one := range c.connections {
		c.readers.Go(one.read)
	}
	return c, nil
}

func closeAll(conns []net.Conn) {
	for _, c := range conns {
		_ = c.Close() // there is nothing to lose
	}
}

func connect(conns []net.Conn, export Export) (*Client, error) {
	if len(conns) == 0 || len(export.Name) > mostString {
		return nil, errors.New("internal error: no connection, or too long a name of an export")
	}
	c := &Client{export: export}
	for i, one := range conns {
		if i > 0 && !c.terms.has(canMultiConn) && !c.terms.has(readOnly) {
			closeAll(conns[i:])
			break
		}
		next := export
		next.Name = export.Of(i)
		t, err := negotiate(one, next)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			c.terms = t
		} else if !c.terms.same(t) {
			return nil, broken("two connections lead to two exports")
		}
		c.connections = append(c.connections, newConnection(one, c, t))
	}
	return c, nil
}

// Close says goodbye to the server, closes the connections, and returns when
// nothing of the client goes on. What was not flushed may be lost.
func (c *Client) Close() error {
	c.end(ErrClosed) // before a request that waits for its turn meets the bound of the goodbye
	for _, one := range c.connections {
		one.disconnect()
	}
	c.hangUp()
	c.readers.Wait()
	return nil
}

// disconnect tells the server that nothing more will come, unless requests are
// being sent.
func (c *connection) disconnect() {
	if !c.write.TryLock() {
		return
	}
	defer c.write.Unlock()
	_ = c.SetWriteDeadline(time.Now().Add(goodbye))
	_, _ = c.Write((&request{command: cmdDisconnect}).appendTo(nil, 0)) // the close says the same
}

// fail ends all, for the first reason given.
func (c *Client) fail(err error) {
	if c.end(err) {
		c.hangUp()
	}
}

// end notes why all ends, and reports whether that is the first reason given.
func (c *Client) end(err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return false
	}
	c.err = err
	return true
}

// hangUp closes the connections.
func (c *Client) hangUp() {
	for _, one := range c.connections {
		_ = one.Conn.Close() // there is nothing to lose
	}
}

// failure is why all ended.
func (c *Client) failure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// run makes a request, on the connection whose turn it is, and returns when it has
// ended.
func (c *Client) run(r *request) error {
	r.done = make(chan struct{})
	c.connections[int(c.turn.Add(1))%len(c.connections)].send(r)
	<-r.done
	return r.err
}

// move reads or writes all of p, which lies within the content.
func (c *Client) move(command, flags uint16, p []byte, off int64) (done int, err error) {
	for done < len(p) && err == nil {
		some := p[done:min(done+mostBytes, len(p))]
		err = c.run(&request{command: command, flags: flags, off: off + int64(done), n: uint32(len(some)), buf: some})
		if err == nil {
			done += len(some)
		}
		if flags&flagDF != 0 && errors.Is(err, syscall.EOVERFLOW) { // it may refuse to answer in one piece
			flags, err = 0, nil
		}
	}
	return done, err
}

// Size is the one that the server said at the start.
func (c *Client) Size() (int64, error) { return c.terms.size, nil }

// Requests is how many calls are fastest.
func (c *Client) Requests() int { return callers }

// Granularity is that of the export.
func (c *Client) Granularity() int64 { return c.export.Granularity }

// ReadAt reads. It asks for an answer in one piece: holes are known by Extents, and
// QEMU reads extents one after the other to tell about holes, but clusters of one piece
// together.
func (c *Client) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, syscall.EINVAL
	}
	n := int(min(int64(len(p)), max(c.terms.size-off, 0)))
	flags := uint16(0)
	if c.terms.has(sendDF) {
		flags = flagDF
	}
	done, err := c.move(cmdRead, flags, p[:n], off)
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return done, err
}

// WriteAt writes. What lies beyond the end is ENOSPC.
func (c *Client) WriteAt(p []byte, off int64) (int, error) {
	if err := c.writable(off, int64(len(p))); err != nil {
		return 0, err
	}
	defer c.memory.changes(off, int64(len(p)))
	return c.move(cmdWrite, 0, p, off)
}

func (c *Client) writable(off, n int64) error {
	switch {
	case c.terms.has(readOnly):
		return syscall.EROFS
	case off < 0 || n < 0:
		return syscall.EINVAL
	case n > c.terms.size-off:
		return syscall.ENOSPC
	}
	return nil
}

// Flush asks for a flush of all that was written, by any connection.
func (c *Client) Flush() error {
	if c.terms.has(readOnly) {
		return c.failure()
	}
	if !c.terms.has(sendFlush) {
		return diskio.ErrUnsupported
	}
	err := c.run(&request{command: cmdFlush})
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.flushed == nil {
		c.flushed = err
	}
	return c.flushed
}

// Zero lets the server zero what lies in units of its storage, fast or not at all.
// The rest of them, at both ends, is written by it.
func (c *Client) Zero(off, n int64, unmap bool) error {
	if err := c.writable(off, n); err != nil {
		return err
	}
	if !c.terms.has(sendWriteZeroes) {
		return diskio.ErrUnsupported
	}
	var flags uint16
	if !unmap {
		flags = flagNoHole
	}
	defer c.memory.changes(off, n)
	lo, hi := c.units(off, off+n)
	if lo >= hi {
		return c.each(cmdWriteZeroes, flags, off, off+n)
	}
	fast := flags
	if c.terms.has(sendFastZero) {
		fast |= flagFastZero
	}
	err := c.each(cmdWriteZeroes, fast, lo, hi)
	if err == nil {
		err = c.each(cmdWriteZeroes, flags, off, lo)
	}
	if err == nil {
		err = c.each(cmdWriteZeroes, flags, hi, off+n)
	}
	if errors.Is(err, syscall.EOPNOTSUPP) {
		err = diskio.ErrUnsupported
	}
	return err
}

// units is the part that consists of units of storage. The last one may be cut by
// the end.
func (c *Client) units(off, end int64) (lo, hi int64) {
	unit := max(c.export.Granularity, 1)
	lo, hi = off, end
	if r := off % unit; r > 0 {
		lo += min(unit-r, end-off)
	}
	if end < c.terms.size {
		hi -= end % unit
	}
	return lo, hi
}

// each makes requests without data for all from off to end, one after the other.
func (c *Client) each(command, flags uint16, off, end int64) error {
	for off < end {
		n := min(end-off, zeroBytes-off%zeroBytes)
		if err := c.run(&request{command: command, flags: flags, off: off, n: uint32(n)}); err != nil {
			return err
		}
		off += n
	}
	return nil
}

// Discard tells the server that nobody needs a part any more.
func (c *Client) Discard(off, n int64) error {
	if err := c.writable(off, n); err != nil {
		return err
	}
	if !c.terms.has(sendTrim) {
		return diskio.ErrUnsupported
	}
	defer c.memory.changes(off, n)
	return c.each(cmdTrim, 0, off, off+n)
}
