package virtrpc

import (
	"context"
	"errors"

	"storaged/internal/peer"
	"storaged/internal/polkit"
	"storaged/internal/record"
	"storaged/internal/virtrpc/wire"
	"storaged/internal/virtrpc/xdr"
)

// What libvirt's daemon asks polkit about who connects to its sockets.
const (
	manage  = "org.libvirt.unix.manage"
	monitor = "org.libvirt.unix.monitor"
)

// socket is what there is to say of who comes through one.
func (s *Server) socket(readOnly bool) peer.Socket {
	p := peer.Socket{Via: via, ReadOnly: readOnly, Group: s.Group, Authority: s.Authority, Action: manage}
	if readOnly {
		p.Action = monitor
	}
	return p
}

// authList says what is asked beside what the kernel says of the client.
func authList(c *call, _ wire.None) (xdr.Value, error) {
	if c.stranger {
		return &wire.AuthTypes{wire.AuthByPolkit}, nil
	}
	return &wire.AuthTypes{wire.AuthNone}, nil
}

func noAuth(*call, wire.None) (xdr.Value, error) {
	return nil, wire.Failf(wire.FromRPC, wire.AuthFailed, "authentication failed")
}

// authPolkit has polkit let the client in. It may ask a person: others go on meanwhile.
func authPolkit(c *call, none wire.None) (xdr.Value, error) {
	if !c.stranger || !c.asking.CompareAndSwap(false, true) {
		return noAuth(c, none)
	}
	defer c.asking.Store(false)
	var caller record.Caller
	err := c.aside(func(ctx context.Context) (err error) {
		caller, err = c.conn.Peer.Admit(ctx, c.socket)
		return err
	})
	if err != nil {
		return nil, c.unadmitted(err)
	}
	c.admitted.Store(&caller)
	return new(wire.Int(1)), nil
}

// unadmitted is what a client gets that is not let in.
func (c *call) unadmitted(err error) *wire.Failure {
	o := c.caller.Owner
	c.Log.Info("client is not let in", "uid", o.UID, "user", o.User, "pid", o.PID, "command", o.Command, "action", c.socket.Action, "error", err)
	code := wire.AuthFailed
	var r *polkit.Refusal
	if errors.As(err, &r) {
		code = map[polkit.Why]wire.Code{polkit.Denied: wire.AuthFailed, polkit.Dismissed: wire.AuthCancelled, polkit.NoAgent: wire.AuthUnavailable}[r.Why]
	}
	return wire.Failf(wire.FromPolkit, code, "%v", err)
}

// aside waits for something that is not ours beside what is worked on, as long as the
// client is there and the server runs.
func (c *call) aside(wait func(context.Context) error) error {
	if c.working {
		c.rest()
		defer c.resume()
	}
	ctx, done := c.patient()
	defer done()
	return wait(ctx)
}

// askAside has the caller's questions asked aside.
func (c *call) askAside() {
	ask := c.caller.Ask
	if ask == nil {
		return
	}
	c.caller.Ask = func(_ context.Context, a record.Action) error {
		return c.aside(func(ctx context.Context) error { return ask(ctx, a) })
	}
}
