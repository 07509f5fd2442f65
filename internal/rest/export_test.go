package rest

import (
	"time"

	"storaged/internal/record"
)

// Row is one row of the table of calls.
type Row struct {
	Method, Pattern string
	Role            record.Role
	Query           []string
	Body            bool
	Own             bool
}

// Rows gives the table of calls.
func Rows() []Row {
	var out []Row
	for _, r := range routes() {
		out = append(out, Row{r.method, r.pattern, r.role, r.query, r.body, r.own})
	}
	return out
}

// SetTimes makes a server impatient. It is called before Serve.
func (s *Server) SetTimes(write, comment time.Duration) { s.writeTimeout, s.keepalive = write, comment }

// SetGroup says who is a member. It is called before Serve.
func (s *Server) SetGroup(gid int) { s.group = &gid }

// MaxBody is the bound of a body.
const MaxBody = maxBody
