package nbd

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// connection is one of those of a client.
type connection struct {
	net.Conn
	client *Client
	terms  terms
	in     *bufio.Reader // of the reader

	write sync.Mutex // held while a request is sent
	head  [requestBytes]byte
	vec   [2][]byte

	mu      sync.Mutex
	pending map[uint64]*request // by cookie
	cookie  uint64              // the last one
	ended   bool                // the reader has ended
}

// readAhead is the buffer of the heads of replies. Data goes past it.
const readAhead = 4096

// sendBuffer has room for a request of the largest size and its head, so that it goes
// at one time: each wait for the server to take a part is a change of processes.
const sendBuffer = mostBytes + 64<<10

func newConnection(c net.Conn, client *Client, t terms) *connection {
	if u, ok := c.(*net.UnixConn); ok {
		_ = u.SetWriteBuffer(sendBuffer) // as much as the system allows
	}
	return &connection{
		Conn: c, client: client, terms: t,
		in:      bufio.NewReaderSize(c, readAhead),
		pending: map[uint64]*request{},
	}
}

// register makes a request one that the reader waits for.
func (c *connection) register(r *request) (cookie uint64, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return 0, false
	}
	c.cookie++
	c.pending[c.cookie] = r
	return c.cookie, true
}

// send sends a request. What cannot be sent ends as the client does.
func (c *connection) send(r *request) {
	c.write.Lock()
	defer c.write.Unlock()
	cookie, ok := c.register(r)
	if !ok {
		r.finish(c.client.failure())
		return
	}
	vec := net.Buffers(append(c.vec[:0], r.appendTo(c.head[:0], cookie)))
	if r.command == cmdWrite {
		vec = append(vec, r.buf)
	}
	if _, err := vec.WriteTo(c.Conn); err != nil {
		c.client.fail(lost(err))
	}
	clear(c.vec[:])
}

// read takes replies until the connection ends, and then ends all requests that
// wait. Nobody else touches the buffer of a request that is under way.
func (c *connection) read() {
	err := c.reply()
	for err == nil {
		err = c.reply()
	}
	c.client.fail(err)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	for _, r := range c.pending {
		r.finish(c.client.failure())
	}
	clear(c.pending)
}

// lost is the error of a connection that ended.
func lost(err error) error {
	switch {
	case err == nil || errors.Is(err, ErrProtocol):
		return err
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("the NBD server closed the connection: %w", io.ErrUnexpectedEOF)
	}
	return fmt.Errorf("the connection to the NBD server is lost: %w", err)
}

func (c *connection) waiting(cookie uint64) (*request, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, ok := c.pending[cookie]
	if !ok {
		return nil, broken("a reply to request %d, which does not wait for one", cookie)
	}
	return r, nil
}

func (c *connection) done(cookie uint64, r *request) error {
	if err := r.complete(len(c.terms.contexts)); err != nil {
		return err
	}
	c.mu.Lock()
	delete(c.pending, cookie)
	c.mu.Unlock()
	close(r.done)
	return nil
}

// chunk is the head of one.
type chunk struct {
	flags, kind uint16
	n           uint32
}

// reply takes a simple reply or a chunk.
func (c *connection) reply() error {
	var b [chunkBytes]byte
	if _, err := io.ReadFull(c.in, b[:simpleBytes]); err != nil {
		return lost(err)
	}
	cookie := binary.BigEndian.Uint64(b[8:])
	r, err := c.waiting(cookie)
	if err != nil {
		return err
	}
	switch magic := binary.BigEndian.Uint32(b[:]); magic {
	case magicSimple:
		return c.simple(cookie, r, binary.BigEndian.Uint32(b[4:]))
	case magicStructured:
		if _, err := io.ReadFull(c.in, b[simpleBytes:]); err != nil {
			return lost(err)
		}
		x := chunk{binary.BigEndian.Uint16(b[4:]), binary.BigEndian.Uint16(b[6:]), binary.BigEndian.Uint32(b[16:])}
		if err := c.chunk(r, x); err != nil || x.flags&chunkDone == 0 {
			return err
		}
		return c.done(cookie, r)
	default:
		return broken("a reply with the magic number %#x", magic)
	}
}

func (c *connection) simple(cookie uint64, r *request, code uint32) error {
	switch {
	case r.command == cmdRead:
		return broken("a simple reply to a read")
	case r.parts != nil || r.errors > 0 || r.maps() > 0:
		return broken("a simple reply after chunks")
	case code != 0:
		r.err = errnoOf(code)
	}
	return c.done(cookie, r)
}

// chunk takes what comes behind the head of one.
func (c *connection) chunk(r *request, x chunk) error {
	switch {
	case x.kind == chunkNone && x.n == 0 && x.flags&chunkDone != 0:
		return nil
	case x.kind == chunkData && r.command == cmdRead && x.n > 8:
		return c.data(r, x.n-8)
	case x.kind == chunkHole && r.command == cmdRead && x.n == 12:
		return c.hole(r)
	case x.kind == chunkBlockStatus && r.command == cmdBlockStatus:
		return c.status(r, x.n)
	case x.kind&chunkIsError != 0:
		return c.error(r, x)
	}
	return broken("a chunk of kind %d, flags %#x and %d bytes in the reply to command %d", x.kind, x.flags, x.n, r.command)
}

// take reads so many bytes, at most readAhead.
func (c *connection) take(n int) ([]byte, error) {
	b, err := c.in.Peek(n)
	if err != nil {
		return nil, lost(err)
	}
	_, err = c.in.Discard(n)
	return b, err
}

func (c *connection) data(r *request, n uint32) error {
	b, err := c.take(8)
	if err != nil {
		return err
	}
	to, err := r.cover(binary.BigEndian.Uint64(b), n)
	if err != nil {
		return err
	}
	_, err = io.ReadFull(c.in, to)
	return lost(err)
}

func (c *connection) hole(r *request) error {
	b, err := c.take(12)
	if err != nil {
		return err
	}
	to, err := r.cover(binary.BigEndian.Uint64(b), binary.BigEndian.Uint32(b[8:]))
	clear(to)
	return err
}

// error takes one, of which only the number is of use: what the server says of it
// may be anything.
func (c *connection) error(r *request, x chunk) error {
	const fixed = 6 // number, and length of the message
	if r.errors++; x.n < fixed || x.n > fixed+mostString+8 || r.errors > mostErrors {
		return broken("%d errors in a reply, of %d bytes", r.errors, x.n)
	}
	b, err := c.take(fixed)
	if err != nil {
		return err
	}
	code, message := binary.BigEndian.Uint32(b), uint32(binary.BigEndian.Uint16(b[4:]))
	behind := x.n - fixed
	if code == 0 || message > behind || x.kind == chunkErrorOffset && message+8 != behind {
		return broken("error %d with a message of %d bytes in %d", code, message, behind)
	}
	if r.err == nil {
		r.err = errnoOf(code)
	}
	_, err = c.in.Discard(int(behind))
	return lost(err)
}

// status takes the map of one context.
func (c *connection) status(r *request, n uint32) error {
	if n < 4+8 || n > 4+8*mostDescriptors || (n-4)%8 != 0 {
		return broken("a map of %d bytes", n)
	}
	b, err := c.take(4)
	if err != nil {
		return err
	}
	id := binary.BigEndian.Uint32(b)
	which, ok := c.terms.contexts[id]
	if !ok || len(r.spans[which]) > 0 {
		return broken("a map of context %d, which nobody asked for or came before", id)
	}
	m := mapping{at: r.off, end: r.off + int64(r.n)}
	for range (n - 4) / 8 {
		b, err := c.take(8)
		if err != nil {
			return err
		}
		if err := m.add(binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])); err != nil {
			return err
		}
	}
	r.spans[which] = m.list
	return nil
}
