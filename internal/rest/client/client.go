// Package client calls the REST interface of a daemon. The requests it sends are those of
// package service; of the server it knows what openapi.yaml says.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"syscall"
	"time"

	"storaged/internal/record"
	"storaged/internal/rest/wire"
	"storaged/internal/service/contract"
)

const (
	// connectTimeout bounds connect(2) on a unix socket. It takes
	// microseconds, or as long as a daemon with a full backlog hangs.
	connectTimeout = 5 * time.Second

	// expectTimeout is how long a body is held back that the daemon has not asked
	// for, nor refused: it does one or the other at once.
	expectTimeout = time.Minute

	// maxAnswer bounds what the client reads of one answer, bytes; a page of
	// the largest records stays far below it.
	maxAnswer = 64 << 20
)

// Client calls a daemon over its socket. Its methods are those of Service,
// without the Caller, which the socket's peer credentials give. Every refusal
// is a *record.Error; one that ctx ended is ctx's error. A daemon that cannot
// be reached, or that went away before its answer was whole, has the code
// record.Unreachable: whether a change was made is then not known, unless it
// is asked for again with the same Submit.Key. Methods may be called
// concurrently.
type Client struct {
	name  string // of the daemon, for people
	dial  func(context.Context) (net.Conn, error)
	far   bool // nothing but bytes goes over its connections
	http  *http.Client
	fresh bool
}

// Dial makes a client for the daemon on a unix socket. It connects with the
// first call.
func Dial(socket string) *Client {
	d := net.Dialer{Timeout: connectTimeout}
	return over(socket, func(ctx context.Context) (net.Conn, error) { return d.DialContext(ctx, "unix", socket) })
}

// Over makes a client for the daemon of that name to which dial connects by whatever
// carries bytes, so that no open files are handed over. A *record.Error of dial comes as
// it is.
func Over(name string, dial func(context.Context) (net.Conn, error)) *Client {
	c := over(name, dial)
	c.far = true
	return c
}

func over(name string, dial func(context.Context) (net.Conn, error)) *Client {
	return &Client{name: name, dial: dial, http: &http.Client{
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				conn, err := dial(ctx)
				if err != nil {
					return nil, err
				}
				return heardOut(conn), nil
			},
			DisableCompression:    true,
			ExpectContinueTimeout: expectTimeout,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Name is that of the daemon, for people: its socket, or what Over was given.
func (c *Client) Name() string { return c.name }

// Far reports whether no open files can be handed to the daemon: their content is sent
// instead.
func (c *Client) Far() bool { return c.far }

// Connect gives a connection for somebody who speaks to the daemon himself.
func (c *Client) Connect(ctx context.Context) (net.Conn, error) {
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	return conn, nil
}

// Fresh gives a client over the same connections that has pools read anew
// before it is told of them and their volumes.
func (c *Client) Fresh() *Client {
	fresh := *c
	fresh.fresh = true
	return &fresh
}

// Wrap puts a layer, for example one that checks the traffic, around the
// client's transport. It is called before the first call.
func (c *Client) Wrap(layer func(http.RoundTripper) http.RoundTripper) {
	c.http.Transport = layer(c.http.Transport)
}

// Close closes connections that are kept for further calls.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// ask is one request in the making.
type ask struct {
	method string
	path   []string // segments, not escaped
	query  url.Values
	header http.Header
	body   any
}

func newAsk(method string, path ...string) *ask {
	return &ask{method: method, path: append([]string{wire.Version}, path...), query: url.Values{}, header: http.Header{}}
}

func (a *ask) with(body any) *ask {
	a.body = body
	return a
}

// set adds a key that is on or off.
func (a *ask) set(key string, on bool) {
	if on {
		a.query.Set(key, "true")
	}
}

// under adds how a job is to be started.
func (a *ask) under(s contract.Submit) *ask {
	if s.Key != "" {
		a.header.Set("Idempotency-Key", s.Key)
	}
	if s.IfMatch != 0 {
		a.header.Set("If-Match", wire.ETag(s.IfMatch))
	}
	a.set("dry_run", s.DryRun)
	switch {
	case s.LockWait == nil:
	case *s.LockWait < 0:
		a.query.Set("lock_wait", "forever")
	default:
		a.query.Set("lock_wait", seconds(*s.LockWait))
	}
	return a
}

func (a *ask) request(ctx context.Context) (*http.Request, error) {
	u := url.URL{Scheme: "http", Host: "storaged", RawQuery: a.query.Encode()}
	for _, s := range a.path {
		u.Path += "/" + s
		u.RawPath += "/" + url.PathEscape(s)
	}
	var body io.Reader
	if a.body != nil {
		b, err := json.Marshal(a.body)
		if err != nil {
			return nil, record.Errorf(record.Invalid, "cannot write the request: %v", err)
		}
		body = bytes.NewReader(b)
		a.header.Set("Content-Type", wire.JSONType)
	}
	// The URL is set afterwards: to parse one of hostile names would change them.
	r, err := http.NewRequestWithContext(ctx, a.method, "http://storaged/", body)
	if err != nil {
		panic("internal error: client: " + err.Error())
	}
	r.URL, r.Header = &u, a.header
	return r, nil
}

// send sends a request and gives the answer to it, whose body the caller closes.
func (c *Client) send(ctx context.Context, a *ask) (*http.Response, error) {
	if c.fresh && a.method == http.MethodGet && len(a.path) > 1 && (a.path[1] == "pools" || a.path[1] == "volumes") {
		a.set("fresh", true)
	}
	r, err := a.request(ctx)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	return resp, nil
}

// open is send for an answer that is a stream.
func (c *Client) open(ctx context.Context, a *ask) (*http.Response, error) {
	resp, err := c.send(ctx, a)
	if err == nil && resp.StatusCode >= 300 {
		defer resp.Body.Close()
		return nil, c.refusal(resp)
	}
	return resp, err
}

// do sends a request and reads the answer into out.
func (c *Client) do(ctx context.Context, a *ask, out any) error {
	resp, err := c.send(ctx, a)
	if err != nil {
		return err
	}
	return c.read(ctx, resp, out)
}

// read reads an answer into out, when out is not nil and there is one (204 has none),
// or gives the problem that it is.
func (c *Client) read(ctx context.Context, resp *http.Response, out any) error {
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		return c.refusal(resp)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return c.unreachable(ctx, err)
	}
	if out == nil || resp.StatusCode == http.StatusNoContent {
		return nil
	}
	if err := json.Unmarshal(b, out); err != nil {
		return record.Errorf(record.Internal, "cannot read the answer of the daemon at %q: %v", c.name, err)
	}
	return nil
}

// fetch is do for one value.
func fetch[T any](ctx context.Context, c *Client, a *ask) (T, error) {
	var v T
	err := c.do(ctx, a, &v)
	return v, err
}

// fetchAll reads all pages of a list.
func fetchAll[T any](ctx context.Context, c *Client, a *ask) ([]T, error) {
	all := []T{}
	a.query.Set("limit", strconv.Itoa(record.MaxPage))
	for {
		l, err := fetch[contract.List[T]](ctx, c, a)
		if err != nil {
			return nil, err
		}
		all = append(all, l.Items...)
		if l.Next == nil {
			return all, nil
		}
		a.query.Set("cursor", *l.Next)
	}
}

// refusal reads the problem that an answer carries.
func (c *Client) refusal(resp *http.Response) error {
	var p record.Problem
	b, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if kind == wire.ProblemType && json.Unmarshal(b, &p) == nil && p.Code != "" {
		return p.Error()
	}
	return record.Errorf(record.Internal, "who listens at %q answered %q and is not storaged", c.name, resp.Status).
		WithHint("see which program has the socket open")
}

// unreachable names the socket and why there is no answer from it.
func (c *Client) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if said, ok := errors.AsType[*record.Error](err); ok { // by what carries the connection
		return said
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return c.noConnection(op.Err)
	}
	return record.Errorf(record.Unreachable, "lost the daemon at %q before its answer: %v", c.name, cause(err))
}

// NoDaemonHint is the hint of an error that there is no daemon at a socket.
const NoDaemonHint = "is storaged running there? --socket names another one"

func (c *Client) noConnection(err error) error {
	var e *record.Error
	switch {
	case errors.Is(err, fs.ErrPermission):
		e = record.Errorf(record.Denied, "not permitted to use the socket %q", c.name)
		return e.WithHint("its owner and the members of its group may")
	case errors.Is(err, fs.ErrNotExist):
		e = record.Errorf(record.Unreachable, "no daemon at %q: there is no such socket", c.name)
	case errors.Is(err, syscall.ECONNREFUSED):
		e = record.Errorf(record.Unreachable, "no daemon at %q: nobody listens", c.name)
	default:
		e = record.Errorf(record.Unreachable, "cannot reach the daemon at %q: %v", c.name, cause(err))
	}
	return e.WithHint(NoDaemonHint)
}

// cause leaves out what http and net put before an error: a URL that is not
// one, and addresses that are empty.
func cause(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	return err
}

// seconds is a duration as queries write it.
func seconds(d time.Duration) string {
	return strconv.FormatFloat(d.Seconds(), 'f', 9, 64)
}

// setAll adds a key for each value that is not empty.
func setAll(q url.Values, key string, values ...string) {
	for _, v := range values {
		if v != "" {
			q.Add(key, v)
		}
	}
}
