package client

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"storaged/internal/record"
	"storaged/internal/service/contract"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestUnreachableNamesTheSocket(t *testing.T) {
	dir := t.TempDir()
	nobody := filepath.Join(dir, "nobody.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: nobody})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	for name, socket := range map[string]string{"missing": filepath.Join(dir, "none.sock"), "stale": nobody} {
		t.Run(name, func(t *testing.T) {
			c := Dial(socket)
			defer c.Close()
			_, err := c.Pools(t.Context())
			if record.CodeOf(err) != record.Unreachable || !strings.Contains(err.Error(), socket) {
				t.Fatalf("got %v", err)
			}
		})
	}
}

// answering is a client of a program that does that with each of some connections, one
// after the other. end waits until it has done all, and then nobody listens any more.
func answering(t *testing.T, connections int, answer func(net.Conn)) (c *Client, path string, end func()) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	done.Go(func() {
		for range connections {
			conn, err := l.Accept()
			if err != nil {
				t.Error(err)
				return
			}
			answer(conn)
			conn.Close()
		}
	})
	c = Dial(path)
	t.Cleanup(func() {
		c.Close()
		l.Close()
		done.Wait()
	})
	return c, path, done.Wait
}

func TestDaemonThatDiesBeforeItsAnswerIsUnreachable(t *testing.T) {
	c, path, end := answering(t, 2, func(conn net.Conn) {
		// Begin an answer and die.
		_, _ = conn.Read(make([]byte, 4096))
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"name\":")
	})
	_, err := c.Pool(t.Context(), "images")
	if record.CodeOf(err) != record.Unreachable || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v", err)
	}
	if _, err := c.ForgetJob(t.Context(), "1"); record.CodeOf(err) != record.Unreachable {
		t.Errorf("a change: got %v", err)
	}
	end()
}

func TestAnswerOfAnotherProgramIsNotBelieved(t *testing.T) {
	c, _, end := answering(t, 1, func(conn net.Conn) {
		_, _ = conn.Read(make([]byte, 4096))
		_, _ = io.WriteString(conn, "HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nContent-Length: 5\r\n\r\nhello")
	})
	_, err := c.Pool(t.Context(), "images")
	end()
	if record.CodeOf(err) != record.Internal || !strings.Contains(err.Error(), "is not storaged") {
		t.Fatalf("got %v", err)
	}
}

// deafConn is a connection whose reader comes too late: after a write has failed.
type deafConn struct {
	net.Conn
	failed  chan struct{}
	failing sync.Once
}

func (c *deafConn) Read(b []byte) (int, error) {
	<-c.failed
	return c.Conn.Read(b)
}

func (c *deafConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if err != nil {
		c.failing.Do(func() { close(c.failed) })
	}
	return n, err
}

// A client that is stopped or starved finds both at once: that it cannot write any
// more, and why.
func TestRefusalIsReadThoughTheDaemonHasHungUp(t *testing.T) {
	answer := `{"type":"about:blank","title":"Busy","status":409,"code":"busy","detail":"the volume is in use"}`
	c, path, end := answering(t, 1, func(conn net.Conn) {
		_, _ = conn.Read(make([]byte, 100)) // not all of it
		_, _ = fmt.Fprintf(conn, "HTTP/1.1 409 Conflict\r\nConnection: close\r\nContent-Type: application/problem+json\r\nContent-Length: %d\r\n\r\n%s", len(answer), answer)
	})
	transport := c.http.Transport.(*http.Transport)
	transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
		return heardOut(&deafConn{Conn: conn, failed: make(chan struct{})}), err
	}
	_, err := c.SetSecret(t.Context(), contract.Submit{}, "key", make([]byte, 4<<20)) // more than the socket holds
	end()
	if record.CodeOf(err) != record.Busy {
		t.Fatalf("got %v", err)
	}
}
