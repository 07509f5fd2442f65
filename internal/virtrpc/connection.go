package virtrpc

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"storaged/internal/peer"
	"storaged/internal/record"
	"storaged/internal/virtrpc/wire"
	"storaged/internal/virtrpc/xdr"
)

const (
	// maxCalls bounds the calls of a connection that were not answered yet. Most of
	// that many wait for a job, which costs a goroutine each.
	maxCalls = 1024

	// maxWork bounds those of them that are worked on, or written: a long list of
	// volumes is 3 MiB.
	maxWork = 8

	// plainArguments bounds the arguments of a call that is nothing special: names
	// and most documents fit.
	plainArguments = 64 << 10

	// largeArguments bounds those of others, which only clients make that may change
	// something. There is room for the longest string. maxLarge bounds how many of
	// these calls a connection has at once.
	largeArguments = xdr.MaxString + plainArguments
	maxLarge       = 4

	// readBuffer holds several small packets.
	readBuffer = 16 << 10

	// via names the front end in records of jobs.
	via = "libvirt"

	// maxFDs is VIR_NET_MESSAGE_NUM_FDS_MAX.
	maxFDs = 32
)

// connection is one of a client. Its fields below state are the reader's alone.
type connection struct {
	*Server
	conn    *peer.Conn
	socket  peer.Socket
	in      *bufio.Reader
	gone    context.Context // over when the client has left
	leave   context.CancelFunc
	calls   chan struct{} // a place for each that was not answered
	work    chan struct{} // for each that is worked on
	large   chan struct{} // for each with large arguments
	group   sync.WaitGroup
	streams streams
	events  subscription
	out     output

	stranger bool                          // until it is admitted
	asking   atomic.Bool                   // whether it is to be
	admitted atomic.Pointer[record.Caller] // as whom

	heard   atomic.Int64 // packets that came
	blocked atomic.Bool  // nothing is read, since a bound was reached

	// state
	caller record.Caller
	opened bool
	closed bool // by the client's word
	kept   bool // pings are sent
}

func newConnection(s *Server, conn *peer.Conn, readOnly bool) *connection {
	c := &connection{
		Server: s, conn: conn, socket: s.socket(readOnly), in: bufio.NewReaderSize(conn, readBuffer),
		calls: make(chan struct{}, maxCalls), work: make(chan struct{}, maxWork), large: make(chan struct{}, maxLarge),
	}
	c.caller, c.stranger = conn.Peer.Caller(c.socket), conn.Peer.Stranger(c.socket)
	c.gone, c.leave = context.WithCancel(context.Background())
	return c
}

// serve answers until the client leaves, breaks the rules or the server stops. What it
// began has ended on return.
func (c *connection) serve() {
	o := c.caller.Owner
	c.Log.Debug("connected", "uid", o.UID, "user", o.User, "pid", o.PID, "command", o.Command, "read_only", c.socket.ReadOnly)
	away := context.AfterFunc(c.gone, func() { _ = c.conn.Close() })
	halt := context.AfterFunc(c.stopping, func() { _ = c.conn.SetReadDeadline(time.Unix(1, 0)) })
	defer halt()
	defer away()
	err := c.receive()
	if c.stopping.Err() == nil {
		c.leave()
	}
	c.streams.breakAll()
	c.group.Wait() // calls answer, or find that nobody is there
	if c.stopping.Err() != nil {
		c.part()
	}
	c.leave()
	_ = c.conn.Close()
	if err != nil && !errors.Is(err, net.ErrClosed) && c.stopping.Err() == nil {
		c.Log.Debug("connection broken", "pid", o.PID, "error", err)
	}
}

// part has the client see the end of what comes before the connection closes: a program
// in C is killed by its next word to a closed one (SIGPIPE), before it has said why its
// call failed.
func (c *connection) part() {
	_ = c.conn.CloseWrite()
	_ = c.conn.SetReadDeadline(time.Now().Add(partingTime))
	_, _ = io.Copy(io.Discard, c.in)
}

// receive reads packets until there are no more.
func (c *connection) receive() error {
	for !c.closed {
		h, n, err := wire.ReadHeader(c.in)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		c.heard.Add(1)
		if err := c.packet(h, n); err != nil {
			return err
		}
	}
	return nil
}

// packet takes one packet, whose payload of n bytes has not been read. It gives an
// error where nothing more can be read.
func (c *connection) packet(h wire.Header, n int) error {
	switch {
	case h.Program == wire.Keepalive:
		if err := c.discard(n); err != nil || h.Procedure != wire.Ping {
			return err
		}
		return c.send(wire.Header{Program: wire.Keepalive, Version: wire.Version, Procedure: wire.Pong, Type: wire.Message}, nil)
	case h.Type == wire.Call:
		return c.called(h, n)
	case h.Type == wire.CallWithFDs:
		return c.calledWithFDs(h, n)
	case h.Type == wire.Stream || h.Type == wire.StreamHole:
		return c.streamed(h, n)
	}
	return c.discard(n) // answers to nothing, as libvirt's daemon has it
}

func (c *connection) discard(n int) error {
	_, err := io.CopyN(io.Discard, c.in, int64(n))
	return err
}

// called takes a call: it does what only concerns the connection, and gives others a
// goroutine.
func (c *connection) called(h wire.Header, n int) error {
	if a := c.admitted.Swap(nil); a != nil {
		c.caller, c.stranger = *a, false
	}
	p, refusal := c.procedure(h)
	most := plainArguments
	if c.caller.Role >= record.MemberRole {
		most = largeArguments
	}
	if refusal == nil && n > most {
		refusal = undecodable
	}
	if refusal != nil {
		if err := c.discard(n); err != nil {
			return err
		}
		return c.fail(h, refusal)
	}
	k := &call{connection: c, header: h, procedure: p, caller: c.caller, stranger: c.stranger, began: time.Now()}
	k.askAside()
	if err := k.arrive(n); err != nil {
		return err
	}
	if p.stream {
		k.stream = newStream(k)
		if !c.streams.add(k.stream) {
			k.stream = nil
			k.release()
			return c.fail(h, wire.Failf(wire.FromRPC, wire.RPCError, "serial %d is that of a stream already", h.Serial))
		}
	}
	if p.atOnce {
		k.run()
		return nil
	}
	c.group.Go(k.run)
	return nil
}

// waitFor takes a place of those, and reports whether it has one: not when the client
// has left. While there is none, nothing is read.
func (c *connection) waitFor(places chan struct{}) bool {
	select {
	case places <- struct{}{}:
		return true
	default:
	}
	c.blocked.Store(true)
	defer c.blocked.Store(false)
	select {
	case places <- struct{}{}:
		return true
	case <-c.gone.Done():
		return false
	}
}

// procedure finds the one that is called, or says why it cannot be.
func (c *connection) procedure(h wire.Header) (procedure, *wire.Failure) {
	procedures := c.programs[h.Program]
	switch {
	case procedures == nil || h.Version != wire.Version:
		return procedure{}, wire.Failf(wire.FromRPC, wire.RPCError, "Cannot find program %d version %d", int32(h.Program), int32(h.Version))
	case h.Status != wire.OK:
		return procedure{}, wire.Failf(wire.FromRPC, wire.RPCError, "Unexpected message status %d", h.Status)
	}
	p, ok := procedures[h.Procedure]
	switch {
	case !ok && (h.Program != wire.Remote || h.Procedure == 0 || h.Procedure > wire.LastProcedure):
		return p, wire.Failf(wire.FromRPC, wire.RPCError, "unknown procedure: %d", int32(h.Procedure))
	case !ok:
		return p, wire.Failf(wire.FromDomain, wire.NoSupport, "procedure %d", h.Procedure)
	}
	return p, c.refusal(p)
}

// refusal says why this client may not call a procedure now, nil if it may.
func (c *connection) refusal(p procedure) *wire.Failure {
	switch {
	case c.stranger && p.access > strangers:
		return wire.Failf(wire.FromRPC, wire.RPCError, "authentication required")
	case c.opened || p.access < opened:
	case p.access == opened:
		return notOpen
	default:
		return wire.Failf(wire.FromRPC, wire.InternalError, "connection not open")
	}
	switch {
	case p.access < owns || c.caller.Role >= record.MemberRole || p.access == owns && c.caller.Role == record.UserRole:
		return nil
	case c.caller.Role == record.ReaderRole:
		return wire.Failf(wire.FromStorage, wire.OperationDenied, "read only access prevents %s", p.name)
	}
	return wire.Failf(wire.FromStorage, wire.AccessDenied, "uid %d is not in the group of the socket, which %s needs", c.caller.Owner.UID, p.name)
}

// notOpen is said of calls about a connection that is not open.
var notOpen = wire.Failf(wire.FromRPC, wire.InternalError, "hypervisor connection not open")

// undecodable is what there is to say of arguments that cannot be read.
var undecodable = wire.Failf(wire.FromRPC, wire.RPCError, "Unable to decode message payload")

// calledWithFDs refuses a call that comes with descriptors, which none of ours takes.
// Behind the packet there is a byte for each of them; what they are of the kernel
// closes when nobody asks for it.
func (c *connection) calledWithFDs(h wire.Header, n int) error {
	var count [4]byte
	if n < len(count) {
		return errors.New("a packet with descriptors does not say how many")
	}
	if _, err := io.ReadFull(c.in, count[:]); err != nil {
		return err
	}
	fds := binary.BigEndian.Uint32(count[:])
	if fds > maxFDs {
		return fmt.Errorf("a packet has %d descriptors, more than %d", fds, maxFDs)
	}
	if err := c.discard(n - len(count) + int(fds)); err != nil {
		return err
	}
	return c.fail(h, wire.Failf(wire.FromRPC, wire.NoSupport, "file descriptors"))
}
