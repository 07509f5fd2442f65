package client

import (
	"net"
	"sync"
)

// heardConn is a connection of which a write fails only when nothing more can be
// read from it. A daemon that refuses a request answers, and may hang up, before all of
// it is sent; the answer is still to be read then, but http.Transport does not look for
// it once it hears of a write that failed. Others may read and close while one
// writes.
type heardConn struct {
	net.Conn
	over chan struct{} // closed when nothing more is read
	end  func()        // closes it
}

func heardOut(conn net.Conn) *heardConn {
	over := make(chan struct{})
	return &heardConn{conn, over, sync.OnceFunc(func() { close(over) })}
}

func (c *heardConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err != nil {
		c.end()
	}
	return n, err
}

func (c *heardConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if err != nil {
		<-c.over
	}
	return n, err
}

func (c *heardConn) Close() error {
	c.end()
	return c.Conn.Close()
}
