package rest

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"

	"storaged/internal/peer"
	"storaged/internal/record"
	"storaged/internal/rest/wire"
)

// retryAfter says when a refused request may succeed.
var retryAfter = map[record.Code]time.Duration{
	record.QueueFull:       5 * time.Second,  // a short job ends
	record.RecoveringCode:  time.Second,      // the start of the daemon takes about that
	record.StateUnwritable: 30 * time.Second, // somebody has to make room
	record.Draining:        60 * time.Second, // a service that restarts, a host that reboots
	record.Unreachable:     time.Second,
}

// call is one request on its way. It is its own ResponseWriter, so that it
// comes through the mux to the row that handles it.
type call struct {
	*Server
	http.ResponseWriter
	r      *http.Request
	caller record.Caller
	row    *route // nil until one was found
	began  time.Time
	status int   // answered, 0 before
	bytes  int64 // of the answer
	err    error // refused with
	job    int64 // started or changed
	read   bool  // the body, to its end
}

// WriteHeader notes the status.
func (c *call) WriteHeader(status int) {
	if c.status == 0 {
		c.status = status
	}
	c.ResponseWriter.WriteHeader(status)
}

// Write notes the size. The client has writeTimeout to take it.
func (c *call) Write(b []byte) (int, error) {
	if c.status == 0 {
		c.status = http.StatusOK
	}
	c.deadline()
	n, err := c.ResponseWriter.Write(b)
	c.bytes += int64(n)
	return n, err
}

// Unwrap is for http.ResponseController.
func (c *call) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// deadline gives the client writeTimeout for what is written next. A
// connection that cannot have one cannot get stuck either (tests).
func (c *call) deadline() {
	_ = http.NewResponseController(c.ResponseWriter).SetWriteDeadline(time.Now().Add(c.writeTimeout))
}

// checkPath holds every segment of a path to the rule for names, escaped or
// not, so that the mux has nothing to clean and never redirects.
func checkPath(r *http.Request) error {
	path, ok := strings.CutPrefix(r.URL.EscapedPath(), "/")
	if !ok {
		return record.Errorf(record.Invalid, "bad path: it does not begin with a slash")
	}
	if path == "" {
		return nil
	}
	for segment := range strings.SplitSeq(path, "/") {
		name, err := url.PathUnescape(segment)
		if err == nil {
			err = record.CheckName(name)
		}
		if err != nil {
			return record.Errorf(record.Invalid, "bad path: %v", err)
		}
	}
	return nil
}

// ctx is the context for a call of the service. A change that has begun is
// not disturbed by a client that leaves.
func (c *call) ctx() context.Context {
	if c.row.role > record.ReaderRole {
		return context.WithoutCancel(c.r.Context())
	}
	return c.r.Context()
}

// patient is a context for waiting: over when the client leaves or the server
// stops.
func (c *call) patient() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(c.r.Context())
	end := context.AfterFunc(c.stopping, cancel)
	return ctx, func() { end(); cancel() }
}

// connection is what the request came on.
func (c *call) connection() *peer.Conn { return c.r.Context().Value(connectionKey{}).(*peer.Conn) }

// answer writes v as JSON, with all its lists.
func (c *call) answer(status int, v any) error {
	b, err := json.Marshal(withLists(v))
	if err != nil {
		panic("internal error: rest: an answer cannot be JSON: " + err.Error())
	}
	c.write(status, wire.JSONType, append(b, '\n'))
	return nil
}

// result answers with what a call of the service gave.
func (c *call) result(v any, err error) error {
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, v)
}

// write answers with a whole body. A client that is gone does not get it,
// which nobody can help.
func (c *call) write(status int, kind string, b []byte) {
	c.Header().Set("Content-Type", kind)
	c.Header().Set("Content-Length", strconv.Itoa(len(b)))
	c.WriteHeader(status)
	_, _ = c.Write(b)
}

// fail answers with a problem; nil does nothing.
func (c *call) fail(err error) {
	if err == nil {
		return
	}
	c.err = err
	gone := c.r.Context().Err() != nil && errors.Is(err, c.r.Context().Err())
	if c.status != 0 || gone {
		panic(http.ErrAbortHandler) // a broken connection is no whole answer
	}
	var e *record.Error
	switch {
	case errors.As(err, &e):
		e = e.Within(err)
	case c.stopping.Err() != nil && errors.Is(err, context.Canceled):
		e = record.Errorf(record.Draining, "storaged stops")
	case errors.Is(err, context.DeadlineExceeded):
		e = record.Errorf(record.TimedOut, "%v", err)
	default:
		e = record.Errorf(record.Internal, "%v", err)
	}
	c.problem(e)
}

func (c *call) problem(e *record.Error) {
	p := e.Problem()
	if d := retryAfter[e.Code]; d > 0 {
		c.Header().Set("Retry-After", strconv.Itoa(int(d.Seconds())))
	}
	unread := c.r.ContentLength != 0 && !c.read
	if unread {
		c.Header().Set("Connection", "close") // so that nobody waits for the body
	}
	b, err := json.Marshal(p)
	if err != nil {
		panic("internal error: rest: a problem cannot be JSON: " + err.Error())
	}
	c.write(p.Status, wire.ProblemType, append(b, '\n'))
	if unread {
		c.linger()
	}
}

// linger ends the answer and reads on what a client still sends of a body that
// nobody wants. Who is writing when the connection is closed may never read why. It
// reads the connection: a body that a deadline has broken, as the end of a job does,
// gives that error for ever.
func (c *call) linger() {
	conn, ok := c.r.Context().Value(connectionKey{}).(*peer.Conn)
	if !ok || http.NewResponseController(c.ResponseWriter).Flush() != nil || conn.CloseWrite() != nil {
		return
	}
	expire := func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) }
	defer expire() // the server reads no more of it either
	_ = conn.SetReadDeadline(time.Now().Add(lingerTime))
	defer context.AfterFunc(c.stopping, expire)()
	_, _ = io.CopyN(io.Discard, conn, lingerBytes)
}

// finish ends a call: it makes a problem of a panic and writes the log.
func (c *call) finish() {
	v := recover()
	if v != nil && v != http.ErrAbortHandler {
		c.log.Error("call panicked", "method", c.r.Method, "path", c.r.URL.EscapedPath(), "panic", v, "stack", string(debug.Stack()))
		c.err = record.Errorf(record.Internal, "internal error in the daemon; its log has the details")
		if c.status == 0 {
			c.Header().Set("Connection", "close")
			c.problem(c.err.(*record.Error))
			v = nil
		}
	}
	c.logAccess()
	if v != nil {
		panic(http.ErrAbortHandler)
	}
}

// logAccess writes one line per call, at debug: what comes of a change is said when it is
// over. What the daemon or its storage is to blame for is an error; of a job it is not.
func (c *call) logAccess() {
	level := hclog.Debug
	switch status := record.CodeOf(c.err).Meaning().Status; {
	case c.err == nil || c.job != 0:
	case status == http.StatusInternalServerError || status == http.StatusBadGateway:
		level = hclog.Error
	}
	o := c.caller.Owner
	args := []any{"method", c.r.Method, "path", c.r.URL.EscapedPath(), "status", c.status, "bytes", c.bytes,
		"ms", time.Since(c.began).Milliseconds(), "uid", o.UID, "user", o.User, "pid", o.PID, "command", o.Command}
	if o.LoginUser != "" && o.LoginUser != o.User {
		args = append(args, "login_user", o.LoginUser)
	}
	if q := c.r.URL.RawQuery; q != "" {
		args = append(args, "query", record.Short(q))
	}
	if c.job != 0 {
		args = append(args, "job", c.job)
	}
	if c.err != nil {
		args = append(args, "code", record.CodeOf(c.err), "error", c.err.Error())
	}
	c.log.Log(level, "request", args...)
}
