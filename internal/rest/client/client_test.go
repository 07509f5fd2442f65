package client

import (
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"storaged/internal/record"
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

func TestDaemonThatDiesBeforeItsAnswerIsUnreachable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	done.Go(func() {
		for range 2 {
			conn, err := l.Accept()
			if err != nil {
				t.Error(err)
				return
			}
			// Begin an answer and die.
			_, _ = conn.Read(make([]byte, 4096))
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"name\":")
			conn.Close()
		}
	})
	c := Dial(path)
	defer c.Close()
	_, err = c.Pool(t.Context(), "images")
	if record.CodeOf(err) != record.Unreachable || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v", err)
	}
	if _, err := c.ForgetJob(t.Context(), "1"); record.CodeOf(err) != record.Unreachable {
		t.Errorf("a change: got %v", err)
	}
	l.Close()
	done.Wait()
}

func TestAnswerOfAnotherProgramIsNotBelieved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var done sync.WaitGroup
	done.Go(func() {
		conn, err := l.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = conn.Read(make([]byte, 4096))
		_, _ = io.WriteString(conn, "HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nContent-Length: 5\r\n\r\nhello")
	})
	c := Dial(path)
	defer c.Close()
	_, err = c.Pool(t.Context(), "images")
	done.Wait()
	if record.CodeOf(err) != record.Internal || !strings.Contains(err.Error(), "is not storaged") {
		t.Fatalf("got %v", err)
	}
}
