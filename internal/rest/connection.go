package rest

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"

	"storaged/internal/peer"
	"storaged/internal/record"
	"storaged/internal/rest/wire"
)

// connectionKey is where a request's context has its *peer.Conn.
type connectionKey struct{}

// connContext notes who has connected, as a http.Server's ConnContext.
func connContext(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, c.(*peer.Conn))
}

// refuse answers a connection whatever it would have asked.
func refuse(conn net.Conn, e *record.Error) {
	p := e.Problem()
	b, err := json.Marshal(p)
	if err != nil {
		panic("internal error: rest: a problem cannot be JSON: " + err.Error())
	}
	_, _ = fmt.Fprintf(conn, "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %d\r\nRetry-After: %d\r\nConnection: close\r\n\r\n%s",
		p.Status, http.StatusText(p.Status), wire.ProblemType, len(b), int(retryAfter[e.Code].Seconds()), b)
}
