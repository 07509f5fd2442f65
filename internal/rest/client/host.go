package client

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"

	"storaged/internal/record"
	"storaged/internal/rest/wire"
	"storaged/internal/service/contract"
)

// maxEventLine bounds one line of the event stream, bytes: a job's record with
// much to say is some tens of kilobytes.
const maxEventLine = 8 << 20

// Version gives the daemon's versions.
func (c *Client) Version(ctx context.Context) (contract.Version, error) {
	return fetch[contract.Version](ctx, c, newAsk(http.MethodGet, "version"))
}

// Status gives the daemon as a whole.
func (c *Client) Status(ctx context.Context) (contract.Status, error) {
	return fetch[contract.Status](ctx, c, newAsk(http.MethodGet, "status"))
}

// Capabilities gives the pool types and what they can do.
func (c *Client) Capabilities(ctx context.Context) ([]record.Capabilities, error) {
	l, err := fetch[contract.List[record.Capabilities]](ctx, c, newAsk(http.MethodGet, "capabilities"))
	return l.Items, err
}

// Limits gives the scheduler's limits.
func (c *Client) Limits(ctx context.Context) (record.Limits, error) {
	return fetch[record.Limits](ctx, c, newAsk(http.MethodGet, "limits"))
}

// Metrics gives the daemon's figures in the text format of Prometheus.
func (c *Client) Metrics(ctx context.Context) ([]byte, error) {
	a := newAsk(http.MethodGet)
	a.path = []string{"metrics"}
	resp, err := c.open(ctx, a)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	return b, nil
}

// PatchLimits changes the scheduler's limits.
func (c *Client) PatchLimits(ctx context.Context, r contract.LimitsPatch) (record.Limits, error) {
	return fetch[record.Limits](ctx, c, newAsk(http.MethodPatch, "limits").with(r))
}

// Drain begins a drain or takes it back, and names the jobs that run still.
func (c *Client) Drain(ctx context.Context, on bool) (record.Drain, error) {
	return fetch[record.Drain](ctx, c, newAsk(http.MethodPut, "drain").with(contract.DrainSet{On: &on}))
}

// Secrets gives what may be known of the secrets.
func (c *Client) Secrets(ctx context.Context) ([]record.Secret, error) {
	l, err := fetch[contract.List[record.Secret]](ctx, c, newAsk(http.MethodGet, "secrets"))
	return l.Items, err
}

// SetSecret keeps a secret by a name.
func (c *Client) SetSecret(ctx context.Context, s contract.Submit, name string, value []byte) (record.Secret, error) {
	return fetch[record.Secret](ctx, c, newAsk(http.MethodPut, "secrets", name).with(contract.SecretSet{Value: value}).under(s))
}

// DeleteSecret deletes a secret.
func (c *Client) DeleteSecret(ctx context.Context, s contract.Submit, name string) error {
	return c.do(ctx, newAsk(http.MethodDelete, "secrets", name).under(s), nil)
}

// Events opens the stream of the events after number after, or with 0 of those
// from now on: when Events returns, the stream has begun. See Service.Subscribe
// for "reset".
func (c *Client) Events(ctx context.Context, after int64) (*EventStream, error) {
	a := newAsk(http.MethodGet, "events")
	a.header.Set("Accept", wire.EventsType)
	if after != 0 {
		a.header.Set("Last-Event-ID", strconv.FormatInt(after, 10))
	}
	resp, err := c.open(ctx, a)
	if err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxEventLine)
	return &EventStream{ctx: ctx, client: c, body: resp.Body, lines: lines}, nil
}

// EventStream is an open stream of events. It is used by one goroutine, except
// that Close may be called by any.
type EventStream struct {
	ctx    context.Context
	client *Client
	body   io.ReadCloser
	lines  *bufio.Scanner
}

// Next waits for an event. At the end of the stream, which a daemon that stops
// and a "reset" to a reader that fell behind bring about, the error's code is
// record.Unreachable: ask for a new stream after the last number seen.
func (s *EventStream) Next() (record.Event, error) {
	var data strings.Builder
	for s.lines.Scan() {
		text := s.lines.Text()
		if d, ok := strings.CutPrefix(text, "data:"); ok {
			data.WriteString(strings.TrimPrefix(d, " "))
		}
		if text != "" || data.Len() == 0 {
			continue
		}
		var e record.Event
		if err := json.Unmarshal([]byte(data.String()), &e); err != nil {
			return e, record.Errorf(record.Internal, "cannot read an event of the daemon at %q: %v", s.client.name, err)
		}
		return e, nil
	}
	err := s.lines.Err()
	if err == nil {
		err = io.EOF
	}
	return record.Event{}, s.client.unreachable(s.ctx, err)
}

// Close ends the stream.
func (s *EventStream) Close() error { return s.body.Close() }
