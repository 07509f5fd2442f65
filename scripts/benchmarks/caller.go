package main

import (
	"bufio"
	"errors"
	"io"
	"net"
	"time"

	"storaged/internal/virtrpc/wire"
	"storaged/internal/virtrpc/xdr"
)

// caller is a client of libvirt whose connection stays open.
type caller struct {
	conn   net.Conn
	in     *bufio.Reader
	serial uint32
	took   samples // of the calls that count
}

// dialLibvirt opens one to the driver for storage.
func dialLibvirt(socket string) (*caller, error) {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return nil, err
	}
	c := &caller{conn: conn, in: bufio.NewReader(conn)}
	if err := errors.Join(c.call(wire.AuthList, nil, nil), c.call(wire.ConnectOpen, &wire.OpenArgs{URI: new("storage:///system")}, nil)); err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

// begin sends a call.
func (c *caller) begin(p wire.Procedure, args xdr.Value) error {
	var payload []byte
	if args != nil {
		var err error
		if payload, err = xdr.Encode(args); err != nil {
			return err
		}
	}
	c.serial++
	h := wire.Header{Program: wire.Remote, Version: wire.Version, Procedure: p, Serial: c.serial}
	_, err := c.conn.Write(append(h.Append(nil, len(payload)), payload...))
	return err
}

// end waits for what comes next, the answer to a call or to a ping; ret may be nil.
func (c *caller) end(ret xdr.Value) error {
	h, n, err := wire.ReadHeader(c.in)
	if err != nil {
		return err
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(c.in, b); err != nil {
		return err
	}
	switch {
	case h.Status == wire.Error:
		f := &wire.Failure{}
		return errors.Join(xdr.Decode(b, f), f)
	case ret == nil:
		return nil
	}
	return xdr.Decode(b, ret)
}

func (c *caller) call(p wire.Procedure, args, ret xdr.Value) error {
	if err := c.begin(p, args); err != nil {
		return err
	}
	return c.end(ret)
}

// timed makes a call whose time counts.
func (c *caller) timed(l look) error {
	d, err := timed(func() error { return c.call(l.procedure, l.args, nil) })
	c.took = append(c.took, d)
	return err
}

// ping asks for a sign of life, as libvirt's clients do.
func (c *caller) ping() error {
	h := wire.Header{Program: wire.Keepalive, Version: wire.Version, Procedure: wire.Ping, Type: wire.Message}
	d, err := timed(func() error {
		if _, err := c.conn.Write(h.Append(nil, 0)); err != nil {
			return err
		}
		return c.end(nil)
	})
	c.took = append(c.took, d)
	return err
}

// look is a call that only looks.
type look struct {
	procedure wire.Procedure
	args      xdr.Value
}

// looks are lists and looks at a pool, and at a volume in it.
func (c *caller) looks(pool, volume string) ([]look, error) {
	var p wire.Pool
	if err := c.call(wire.StoragePoolLookupByName, new(wire.Text(pool)), &p); err != nil {
		return nil, err
	}
	return []look{
		{wire.ConnectListAllStoragePools, &wire.ListArgs{Need: 1}}, {wire.StoragePoolListAllVolumes, &wire.PoolListArgs{Pool: p, Need: 1}},
		{wire.StoragePoolGetInfo, &p}, {wire.StorageVolGetInfo, &wire.Vol{Pool: pool, Name: volume}},
	}, nil
}

// lookAgain lists and looks on a connection of its own, until the time.
func lookAgain(until time.Time, socket, pool, volume string) (samples, error) {
	c, err := dialLibvirt(socket)
	if err != nil {
		return nil, err
	}
	defer c.conn.Close()
	calls, err := c.looks(pool, volume)
	for err == nil && time.Now().Before(until) {
		for _, l := range calls {
			err = errors.Join(err, c.timed(l))
		}
	}
	return c.took, err
}
