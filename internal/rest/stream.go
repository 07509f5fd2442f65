package rest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"storaged/internal/record"
	"storaged/internal/rest/wire"
)

const (
	// keepalive is the time between comments on a silent stream: they show
	// the client that the daemon lives, and the daemon that the client does.
	keepalive = 15 * time.Second

	// reconnect is how long a stream asks its client to wait before it comes
	// again.
	reconnect = time.Second
)

// getEvents streams events until the client leaves, falls behind, or the
// server stops. Each write has writeTimeout.
func getEvents(c *call) error {
	after, err := c.lastEventID()
	if err != nil {
		return err
	}
	ctx, done := c.patient()
	defer done()
	ch, err := c.svc.Subscribe(ctx, after)
	if err != nil {
		return err
	}
	c.Header().Set("Content-Type", wire.EventsType)
	c.Header().Set("Cache-Control", "no-store")
	if c.push("retry: %d\n\n", reconnect.Milliseconds()) != nil {
		return nil
	}
	c.relay(ctx, ch)
	return nil
}

// relay writes events until there are no more or the client cannot take one.
func (c *call) relay(ctx context.Context, ch <-chan record.Event) {
	tick := time.NewTicker(c.keepalive)
	defer tick.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case e, open := <-ch:
			if !open {
				return
			}
			err = c.pushEvent(e)
		case <-tick.C:
			err = c.push(":\n\n")
		}
		if err != nil {
			c.log.Debug("dropped a client that does not take its events", "pid", c.caller.Owner.PID, "error", err)
			return
		}
	}
}

func (c *call) pushEvent(e record.Event) error {
	b, err := json.Marshal(withLists(e))
	if err != nil {
		panic("internal error: rest: an event cannot be JSON: " + err.Error())
	}
	return c.push("id: %d\nevent: %s\ndata: %s\n\n", e.Seq, e.Type, b)
}

// push writes to the client at once.
func (c *call) push(format string, args ...any) error {
	if c.status == 0 {
		c.WriteHeader(http.StatusOK)
	}
	if _, err := fmt.Fprintf(c, format, args...); err != nil {
		return err
	}
	return http.NewResponseController(c.ResponseWriter).Flush()
}

func (c *call) lastEventID() (int64, error) {
	v, err := c.header("Last-Event-ID")
	if err != nil || v == "" {
		return 0, err
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < 0 {
		return 0, record.Errorf(record.Invalid, "Last-Event-ID is not the number of an event: %s", record.Short(v))
	}
	return n, nil
}
