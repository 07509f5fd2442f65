package rest_test

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"storaged/internal/peer"
	"storaged/internal/testenv"
)

// One user who opens connections without end keeps nobody else out.
func TestConnectionsOfOneUserAreBounded(t *testing.T) {
	testenv.Root(t) // to be another user
	h := newHost(t, nil)
	dial := func() net.Conn {
		var conn net.Conn
		testenv.AsUser(t, nobody, func() { conn = dialRaw(t, h.ro) })
		return conn
	}
	const ask = "GET /v1/version HTTP/1.1\r\nHost: x\r\n\r\n"
	begins := func(conn net.Conn, want string) {
		t.Helper()
		buf := make([]byte, 4096)
		n, err := conn.Read(buf)
		if err != nil || !strings.HasPrefix(string(buf[:n]), want) {
			t.Errorf("got %q, %v, want %s", buf[:n], err, want)
		}
	}
	var in []net.Conn
	for range peer.MaxConnections {
		in = append(in, dial())
	}
	// Who was let in is answered; the next is turned away.
	fmt.Fprint(in[peer.MaxConnections-1], ask)
	begins(in[peer.MaxConnections-1], "HTTP/1.1 200 ")
	begins(dial(), "HTTP/1.1 429 ")
	// Root comes in, and the user too when one has left.
	if _, err := h.client(t, h.main).Version(t.Context()); err != nil {
		t.Error(err)
	}
	fmt.Fprint(in[0], "GET /v1/version HTTP/1.0\r\n\r\n")
	readAll(t, in[0])
	conn := dial()
	fmt.Fprint(conn, ask)
	begins(conn, "HTTP/1.1 200 ")
}
