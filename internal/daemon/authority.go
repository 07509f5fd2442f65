package daemon

import (
	"context"
	"os"
	"time"

	"storaged/internal/polkit"
)

// lookTimeout bounds the look whether the host has polkit. A bus that is alive answers at
// once, and a start does not wait for another.
const lookTimeout = 5 * time.Second

// systemBus is the D-Bus address of the system's bus, which the environment may move (D-Bus
// Specification, Well-known Message Bus Instances).
func systemBus() string {
	if address := os.Getenv("DBUS_SYSTEM_BUS_ADDRESS"); address != "" {
		return address
	}
	return "unix:path=/run/dbus/system_bus_socket"
}

// findAuthority gives who decides about libvirt's clients that are neither root's nor of
// the group, nil where nobody does. A user's own daemon has no others.
func (l *life) findAuthority(ctx context.Context) *polkit.Authority {
	auth := l.Config.Libvirt.Auth
	if auth == authNone || os.Geteuid() != 0 {
		return nil
	}
	a := polkit.On(systemBus())
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	there, err := a.There(ctx)
	switch {
	case there:
		l.Log.Debug("polkit decides about libvirt's clients")
		return a
	case auth == authPolkit:
		l.Log.Warn("polkit is to decide about libvirt's clients, and is not there; all but root and the group are refused until it is", "error", err)
		return a
	}
	l.Log.Debug("there is no polkit to decide about libvirt's clients", "error", err)
	a.Close()
	return nil
}
