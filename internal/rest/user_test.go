package rest_test

import (
	"context"
	"net"
	"net/http"
	"testing"

	"storaged/internal/testenv"
)

// nobody is a uid without rights.
const nobody = 65534

// asUserTransport gives a layer for a client that connects as another user.
func asUserTransport(t *testing.T, socket string, uid int) func(http.RoundTripper) http.RoundTripper {
	t.Helper()
	return func(http.RoundTripper) http.RoundTripper {
		tr := &http.Transport{DialContext: func(context.Context, string, string) (conn net.Conn, err error) {
			testenv.AsUser(t, uid, func() { conn, err = net.Dial("unix", socket) })
			return conn, err
		}}
		t.Cleanup(tr.CloseIdleConnections)
		return tr
	}
}
