package main_test

import (
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// notifySocket is the service manager's end of sd_notify(3).
type notifySocket struct{ conn *net.UnixConn }

func listenNotify(t *testing.T, path string) notifySocket {
	t.Helper()
	os.Remove(path) // of an earlier start
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o666); err != nil { // session mode is another user
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return notifySocket{conn}
}

// await reads until the daemon says what is waited for, and gives the whole of
// what it said then.
func (n notifySocket) await(t *testing.T, what string) string {
	t.Helper()
	if err := n.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	for {
		got, err := n.conn.Read(buf)
		if err != nil {
			t.Fatalf("the daemon does not say %s: %v", what, err)
		}
		if strings.Contains(string(buf[:got]), what) {
			return string(buf[:got])
		}
	}
}
