package virtrpc

import (
	"time"

	"storaged/internal/virtrpc/wire"
)

// Hurry shortens the waits of a server.
func Hurry(s *Server, write, keepalive time.Duration) {
	s.writeTimeout, s.keepaliveInterval = write, keepalive
}

// Procedures gives those that there are, and whether they may change something.
func Procedures() map[wire.Procedure]bool {
	all := map[wire.Procedure]bool{}
	for number, p := range procedures() {
		all[number] = p.access == writes
	}
	return all
}

// Bounds of a connection.
const (
	MaxCalls       = maxCalls
	PlainArguments = plainArguments
)

// Refuse is how a connection is refused.
var Refuse = refuse
