package virtrpc

import (
	"net"
	"sync"
	"sync/atomic"
	"time"

	"storaged/internal/record"
	"storaged/internal/virtrpc/wire"
	"storaged/internal/virtrpc/xdr"
)

// output is the writing side of a connection. Packets are written one after the other,
// each by who has it.
type output struct {
	mu   sync.Mutex
	sent atomic.Int64 // packets, but for pings
}

// send writes a packet. A client that does not take it within writeTimeout is lost.
func (c *connection) send(h wire.Header, payload []byte) error {
	return c.write(h, payload, time.Now().Add(c.writeTimeout))
}

// write writes a packet, until the deadline. What was written in part leaves nothing
// to go on with.
func (c *connection) write(h wire.Header, payload []byte, until time.Time) error {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	if err := c.put(h, payload, until); err != nil {
		return err
	}
	c.out.sent.Add(1)
	return nil
}

func (c *connection) put(h wire.Header, payload []byte, until time.Time) error {
	err := c.conn.SetWriteDeadline(until)
	if err == nil {
		packet := net.Buffers{h.Append(nil, len(payload)), payload}
		_, err = packet.WriteTo(c.conn.UnixConn)
	}
	if err != nil {
		c.leave()
	}
	return err
}

// hurry gives a client that is being written to writeTimeout to take it.
func (c *connection) hurry() { _ = c.conn.SetWriteDeadline(time.Now().Add(c.writeTimeout)) }

// reply answers a call; a nil value is none.
func (c *connection) reply(to wire.Header, v xdr.Value) error {
	if v == nil {
		v = &wire.None{}
	}
	b, err := xdr.Encode(v)
	if err != nil {
		return c.fail(to, wire.Failf(wire.FromRPC, wire.RPCError, "Unable to encode message payload: %v", err))
	}
	to.Type, to.Status = wire.Reply, wire.OK
	return c.send(to, b)
}

// fail answers a call with an error.
func (c *connection) fail(to wire.Header, f *wire.Failure) error {
	to.Type, to.Status = wire.Reply, wire.Error
	return c.send(to, encoded(f))
}

// encoded gives the bytes of an error, of whose message what clients could not read is
// left out.
func encoded(f *wire.Failure) []byte {
	b, err := xdr.Encode(f)
	if err != nil {
		b, err = xdr.Encode(wire.Failf(f.Domain, f.Code, "an error whose message cannot be sent"))
	}
	if err != nil {
		panic("internal error: virtrpc: an error cannot be encoded: " + err.Error())
	}
	return b
}

// keep asks the client from time to time whether it lives, when nothing comes from it.
// While nothing is read from it, that is no fault of its own; it learns then that we
// live, since a client counts whatever it gets.
func (c *connection) keep(owner record.Owner) {
	tick := time.NewTicker(c.keepaliveInterval)
	defer tick.Stop()
	ping := wire.Header{Program: wire.Keepalive, Version: wire.Version, Procedure: wire.Ping, Type: wire.Message}
	heard, sent := c.heard.Load(), c.out.sent.Load()
	for missed := 0; ; {
		select {
		case <-c.gone.Done():
			return
		case <-c.stopping.Done():
			return
		case <-tick.C:
		}
		h, s := c.heard.Load(), c.out.sent.Load()
		came := h != heard
		if came || s != sent || c.blocked.Load() {
			missed = 0
		} else if missed++; missed > keepaliveCount {
			c.Log.Info("a client does not answer any more", "uid", owner.UID, "pid", owner.PID, "command", owner.Command)
			c.leave()
			return
		}
		heard, sent = h, s
		if !came && c.out.mu.TryLock() { // or it gets something just now
			_ = c.put(ping, nil, time.Now().Add(c.writeTimeout))
			c.out.mu.Unlock()
		}
	}
}
