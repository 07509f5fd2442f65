package virtrpc

import (
	"time"

	"storaged/internal/virtrpc/wire"
)

// Hurry shortens the waits of a server.
func Hurry(s *Server, write, keepalive time.Duration) {
	s.writeTimeout, s.keepaliveInterval = write, keepalive
}

// Procedures gives those that there are of a program, and whether they may change
// something.
func Procedures(p wire.Program) map[wire.Procedure]bool {
	all := map[wire.Procedure]bool{}
	for number, p := range programs()[p] {
		all[number] = p.access >= owns
	}
	return all
}

// Bounds of a connection.
const (
	MaxCalls       = maxCalls
	PlainArguments = plainArguments
	MaxCallbacks   = maxCallbacks
)

// JobParams are what is said of a job.
var JobParams = jobParams

// Refuse is how a connection is refused.
var Refuse = refuse
