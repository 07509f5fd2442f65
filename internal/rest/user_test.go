package rest_test

import (
	"context"
	"net"
	"net/http"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// nobody is a uid without rights.
const nobody = 65534

// asUser runs f in a thread whose effective uid is another one: what it
// connects to takes it for that user. It needs root.
func asUser(t *testing.T, uid int, f func()) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	set := func(uid uintptr) {
		// The system call itself, because the library's sets all threads.
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), uid, ^uintptr(0)); errno != 0 {
			t.Fatal(errno)
		}
	}
	set(uintptr(uid))
	defer set(0)
	f()
}

// asUserTransport gives a layer for a client that connects as another user.
func asUserTransport(t *testing.T, socket string, uid int) func(http.RoundTripper) http.RoundTripper {
	t.Helper()
	return func(http.RoundTripper) http.RoundTripper {
		tr := &http.Transport{DialContext: func(context.Context, string, string) (conn net.Conn, err error) {
			asUser(t, uid, func() { conn, err = net.Dial("unix", socket) })
			return conn, err
		}}
		t.Cleanup(tr.CloseIdleConnections)
		return tr
	}
}
