package virtrpc

import (
	"net/url"

	"storaged/internal/peer"
	"storaged/internal/record"
	"storaged/internal/virtrpc/wire"
	"storaged/internal/virtrpc/xdr"
	"storaged/internal/virtxml"
)

// libVersion is the version of libvirt that we are like, as major*1000000 +
// minor*1000 + release: clients ask for it to know what there is.
const libVersion = 9000000

// connecting are the procedures about the connection itself.
func connecting() []procedure {
	return []procedure{
		{wire.AuthList, "virConnectAuthList", strangers, atOnce(authList)},
		{wire.AuthSASLInit, "virConnectAuthSASLInit", strangers, atOnce(noAuth)},
		{wire.AuthSASLStart, "virConnectAuthSASLStart", strangers, atOnce(noAuth)},
		{wire.AuthSASLStep, "virConnectAuthSASLStep", strangers, atOnce(noAuth)},
		{wire.AuthPolkit, "virConnectAuthPolkit", strangers, with(authPolkit)},
		{wire.ConnectSupportsFeature, "virConnectSupportsFeature", anybody, atOnce(supportsFeature)},
		{wire.ConnectOpen, "virConnectOpen", anybody, atOnce(open)},
		{wire.ConnectClose, "virConnectClose", anybody, atOnce(closeConnection)},
		{wire.ConnectGetType, "virConnectGetType", opened, with(getType)},
		{wire.ConnectGetURI, "virConnectGetURI", opened, with(getURI)},
		{wire.ConnectGetLibVersion, "virConnectGetLibVersion", opened, with(getLibVersion)},
		{wire.ConnectGetCapabilities, "virConnectGetCapabilities", opened, with(getCapabilities)},
		{wire.ConnectIsSecure, "virConnectIsSecure", opened, with(isSecure)},
		{wire.ConnectRegisterCloseCallback, "virConnectRegisterCloseCallback", opened, with(closeCallback)},
		{wire.ConnectUnregisterCloseCallback, "virConnectUnregisterCloseCallback", opened, with(closeCallback)},
		{wire.ConnectSetIdentity, "virConnectSetIdentity", opened, atOnce(setIdentity)},
	}
}

// features are those of libvirt's VIR_DRV_FEATURE that there are, and what is answered.
var features = map[wire.Int]wire.Int{
	featureKeepalive: 1,
	14:               1, // events name the callback that they are for
	// The version of our own program. To libvirt's daemon it is one of many features that
	// it has not: so a client of either finds out.
	wire.Int(wire.JobControl): wire.Version,
	15:                        1, // callbacks for the end of a connection, which never comes before it
}

// featureKeepalive is VIR_DRV_FEATURE_PROGRAM_KEEPALIVE. Who asks for it answers pings.
const featureKeepalive wire.Int = 10

// supportsFeature may be asked before the connection is opened only for what is not the
// driver's.
func supportsFeature(c *call, feature wire.Int) (xdr.Value, error) {
	if feature != featureKeepalive && !c.opened {
		return nil, notOpen
	}
	if feature == featureKeepalive && !c.kept {
		c.kept = true
		owner := c.caller.Owner
		c.group.Go(func() { c.keep(owner) })
	}
	return new(features[feature]), nil
}

// open opens the connection to the driver that the URI names; none names the only one.
func open(c *call, a wire.OpenArgs) (xdr.Value, error) {
	if c.opened {
		return nil, wire.Failf(wire.FromRPC, wire.InternalError, "connection already open")
	}
	if a.URI != nil && *a.URI != "" {
		if err := c.mayOpen(*a.URI); err != nil {
			return nil, err
		}
	}
	if c.opened = true; c.socket.ReadOnly || a.Flags&wire.OpenReadOnly != 0 {
		c.connection.caller.Role = record.ReaderRole
	}
	return nil, nil
}

// mayOpen refuses what is not the URI of storage on this host.
func (c *call) mayOpen(uri string) error {
	u, err := url.Parse(uri)
	own, ownErr := url.Parse(c.URI)
	switch {
	case err != nil || ownErr != nil:
		return wire.Failf(wire.FromNone, wire.InternalError, "Unable to parse URI %s", record.Short(uri))
	case u.Scheme != own.Scheme:
		return wire.Failf(wire.FromNone, wire.NoConnect, "%s", uri)
	case u.Path != own.Path:
		return wire.Failf(wire.FromNone, wire.InternalError, "unexpected storage URI path '%s', try %s", u.Path, c.URI)
	}
	return nil
}

func closeConnection(c *call, _ wire.None) (xdr.Value, error) {
	c.closed = true
	return nil, nil
}

func getType(*call, wire.None) (xdr.Value, error) { return new(wire.Text("storage")), nil }

func getURI(c *call, _ wire.None) (xdr.Value, error) { return new(wire.Text(c.URI)), nil }

func getCapabilities(c *call, _ wire.None) (xdr.Value, error) {
	return new(wire.Text(virtxml.FormatCapabilities(c.svc.Capabilities()))), nil
}

func getLibVersion(*call, wire.None) (xdr.Value, error) { return new(wire.Hyper(libVersion)), nil }

// isSecure is so of a unix socket: nobody else hears.
func isSecure(*call, wire.None) (xdr.Value, error) { return new(wire.Int(1)), nil }

// closeCallback needs nothing: a connection whose driver goes away breaks.
func closeCallback(*call, wire.None) (xdr.Value, error) { return nil, nil }

// setIdentity says on whose behalf the client calls: a daemon that others call, such as
// virtqemud, which has decided already what they may do. Jobs are theirs then.
func setIdentity(c *call, a wire.IdentityArgs) (xdr.Value, error) {
	if err := c.flags(a.Flags, 0); err != nil {
		return nil, err
	}
	// Whoever only reads does so on behalf of others, too.
	if c.conn.Peer.Caller(peer.Socket{Via: via, Group: c.Group}).Role < record.RootRole {
		return nil, wire.Failf(wire.FromRPC, wire.AccessDenied, "only root calls on behalf of others")
	}
	owner := c.caller.Owner
	uid, pid := owner.UID, owner.PID
	for _, p := range a.Params {
		switch p.Field {
		case "unix-user-id":
			uid = int(p.Number)
		case "process-id":
			pid = int(p.Number)
		}
	}
	c.connection.caller.Owner = peer.OwnerOf(uid, pid, via)
	return nil, nil
}
