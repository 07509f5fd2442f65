package apitest

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"path/filepath"
	"testing"
)

// Proxy listens on a socket of its own and passes everything on to the daemon
// at socket, checked. It is for programs, which cannot be given a transport.
// The daemon sees the test as its peer. The proxy ends with the test.
func (c *Checker) Proxy(t testing.TB, socket string) string {
	t.Helper()
	// t.TempDir may be too long for the address of a socket.
	path := filepath.Join(filepath.Dir(socket), "checked.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var d net.Dialer
	through := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return d.DialContext(ctx, "unix", socket)
	}}
	quiet := log.New(io.Discard, "", 0)
	h := &http.Server{ErrorLog: quiet, Handler: &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "http", "storaged"
		},
		Transport: c.Transport(through), FlushInterval: -1, ErrorLog: quiet,
		// Without a daemon behind it the proxy hangs up as no daemon would.
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = h.Serve(l) // http.ErrServerClosed, always
	}()
	t.Cleanup(func() {
		_ = h.Close() // a listener that is closed already
		<-served
		through.CloseIdleConnections()
	})
	return path
}
