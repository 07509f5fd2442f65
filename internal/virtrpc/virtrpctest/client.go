// Package virtrpctest is for tests that speak libvirt's remote protocol: a small client
// of our own, which can do what no real one does, and a server to connect to.
package virtrpctest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"storaged/internal/testenv"
	"storaged/internal/virtrpc/wire"
	"storaged/internal/virtrpc/xdr"
)

// Patience bounds every wait: far more than anything takes on a slow machine.
const Patience = 5 * time.Minute

// Client is a client with the habits of go-libvirt: its serials begin with 1, it knows
// no keepalive, does not say that a download has ended, and opens with an odd number where
// others say that there is a URI. It makes one call after the
// other; tests that want more send packets themselves.
type Client struct {
	t      testing.TB
	Conn   *net.UnixConn
	in     *bufio.Reader
	serial uint32
	Events []Packet // messages that came while something else was waited for
}

// Packet is one packet.
type Packet struct {
	wire.Header
	Payload []byte
}

// Dial connects, until the end of the test.
func Dial(t testing.TB, socket string) *Client {
	t.Helper()
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &Client{t: t, Conn: conn, in: bufio.NewReader(conn)}
}

// DialAs is Dial as another user. It needs root.
func DialAs(t testing.TB, socket string, uid int) (c *Client) {
	t.Helper()
	testenv.AsUser(t, uid, func() { c = Dial(t, socket) })
	return c
}

// Open connects and opens a connection to the driver for storage.
func Open(t testing.TB, socket string) *Client {
	t.Helper()
	c := Dial(t, socket)
	c.Do(wire.AuthList, nil, nil)
	h := c.Header(wire.ConnectOpen)
	payload := c.encode(&wire.OpenArgs{URI: new("storage:///system")})
	payload[0], payload[3] = 1, 0
	c.Send(h, payload)
	if err := c.Answer(h, nil); err != nil {
		t.Fatalf("open: %v", err)
	}
	return c
}

// Header is that of a next call.
func (c *Client) Header(p wire.Procedure) wire.Header {
	c.serial++
	return wire.Header{Program: wire.Remote, Version: wire.Version, Procedure: p, Type: wire.Call, Serial: c.serial}
}

// Send sends a packet.
func (c *Client) Send(h wire.Header, payload []byte) {
	c.t.Helper()
	c.SendRaw(append(h.Append(nil, len(payload)), payload...))
}

// SendRaw sends bytes.
func (c *Client) SendRaw(b []byte) {
	c.t.Helper()
	if err := c.Conn.SetWriteDeadline(time.Now().Add(Patience)); err != nil {
		c.t.Fatal(err)
	}
	if _, err := c.Conn.Write(b); err != nil {
		c.t.Fatalf("send: %v", err)
	}
}

// Next gives the next packet. A connection that has ended is io.EOF.
func (c *Client) Next() (p Packet, err error) {
	if err := c.Conn.SetReadDeadline(time.Now().Add(Patience)); err != nil {
		return p, err
	}
	var n int
	if p.Header, n, err = wire.ReadHeader(c.in); err != nil {
		return p, err
	}
	p.Payload = make([]byte, n)
	_, err = io.ReadFull(c.in, p.Payload)
	return p, err
}

// Packet gives a call to be sent.
func (c *Client) Packet(p wire.Procedure, args xdr.Value) (wire.Header, []byte) {
	c.t.Helper()
	h, b := c.Header(p), c.encode(args)
	return h, append(h.Append(nil, len(b)), b...)
}

// Begin sends a call and does not wait for the answer.
func (c *Client) Begin(p wire.Procedure, args xdr.Value) wire.Header {
	c.t.Helper()
	h, b := c.Packet(p, args)
	c.SendRaw(b)
	return h
}

// BeginJob sends a call about jobs, likewise.
func (c *Client) BeginJob(p wire.Procedure, args xdr.Value) wire.Header {
	c.t.Helper()
	h := c.Header(p)
	h.Program = wire.JobControl
	c.Send(h, c.encode(args))
	return h
}

func (c *Client) encode(v xdr.Value) []byte {
	c.t.Helper()
	if v == nil {
		return nil
	}
	b, err := xdr.Encode(v)
	if err != nil {
		c.t.Fatal(err)
	}
	return b
}

// Call makes a call and gives its answer in ret, nil for none, or its error, a
// *wire.Failure where the server gave one.
func (c *Client) Call(p wire.Procedure, args, ret xdr.Value) error {
	c.t.Helper()
	return c.Answer(c.Begin(p, args), ret)
}

// CallJob makes a call about jobs, likewise.
func (c *Client) CallJob(p wire.Procedure, args, ret xdr.Value) error {
	c.t.Helper()
	return c.Answer(c.BeginJob(p, args), ret)
}

// Answer waits for the answer to a call.
func (c *Client) Answer(h wire.Header, ret xdr.Value) error {
	c.t.Helper()
	for {
		p, err := c.Next()
		switch {
		case err != nil:
			return err
		case p.Type == wire.Message:
			c.Events = append(c.Events, p)
			continue
		}
		want := h
		want.Type, want.Status = wire.Reply, p.Status
		if p.Header != want {
			return fmt.Errorf("the answer to %+v is %+v", h, p.Header)
		}
		return p.Decode(ret)
	}
}

// Decode gives the value that a packet has, which does not matter where v is nil, or the
// failure that it tells.
func (p Packet) Decode(v xdr.Value) error {
	if p.Status == wire.Error {
		f := &wire.Failure{}
		if err := xdr.Decode(p.Payload, f); err != nil {
			return err
		}
		return f
	}
	if v == nil {
		return nil
	}
	d := xdr.NewDecoder(p.Payload)
	if v.XDR(d); d.Err() == nil && len(d.Rest()) > 0 {
		return fmt.Errorf("%d bytes follow the value", len(d.Rest()))
	}
	return d.Err()
}

// Do makes a call that succeeds.
func (c *Client) Do(p wire.Procedure, args, ret xdr.Value) {
	c.t.Helper()
	if err := c.Call(p, args, ret); err != nil {
		c.t.Fatalf("procedure %d: %v", p, err)
	}
}
