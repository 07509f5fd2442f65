package daemon

import (
	"errors"
	"os"
	"path/filepath"
	"time"

	"storaged/internal/peer"
	"storaged/internal/record"
	"storaged/internal/virtrpc"
)

// LibvirtConfig says how libvirt's clients are answered.
type LibvirtConfig struct {
	Listen       bool   `toml:"listen"`
	Socket       string `toml:"socket"`
	SocketRO     string `toml:"socket_ro"`     // read only
	OnDisconnect string `toml:"on_disconnect"` // continue, cancel: the job of a client that leaves
	Auth         string `toml:"auth"`          // auto, polkit, none: who decides about others than root and the group

	// Takeover has the daemon take the place of libvirt's own for storage, by its sockets
	// in RunDir.
	Takeover bool   `toml:"takeover"`
	RunDir   string `toml:"run_dir"`
}

// What becomes of the job that a libvirt client waits for, when the client leaves.
const (
	goesOn     = "continue"
	isCanceled = "cancel"
)

// Who decides what libvirt's clients may do that are neither root's nor of the group.
const (
	authAuto   = "auto" // polkit, where the host has it
	authPolkit = "polkit"
	authNone   = "none" // nobody: they look
)

// defaultLibvirt is that of the system's daemon.
func defaultLibvirt() LibvirtConfig {
	return LibvirtConfig{Listen: true, OnDisconnect: goesOn, Auth: authAuto, RunDir: "/run/libvirt"}
}

// complete fills in what follows from the main socket, and checks the rest.
func (c *LibvirtConfig) complete(mainSocket string) error {
	dir := filepath.Dir(mainSocket)
	var wrong []error
	for _, s := range []struct {
		key, name string
		path      *string
	}{{"libvirt.socket", "libvirt.sock", &c.Socket}, {"libvirt.socket_ro", "libvirt-ro.sock", &c.SocketRO}} {
		switch {
		case *s.path == "": // what is wrong with where it lies is said of the main socket
			*s.path = filepath.Join(dir, s.name)
		case !filepath.IsAbs(*s.path):
			wrong = append(wrong, record.BadSetting(s.key, "%s is the absolute path of a socket, not %q", s.key, *s.path))
		}
	}
	if !filepath.IsAbs(c.RunDir) {
		wrong = append(wrong, record.BadSetting("libvirt.run_dir", "libvirt.run_dir is the absolute path of libvirt's run directory, not %q", c.RunDir))
	}
	for key, err := range map[string]error{
		"libvirt.on_disconnect": record.OneOf("libvirt.on_disconnect", c.OnDisconnect, goesOn, isCanceled),
		"libvirt.auth":          record.OneOf("libvirt.auth", c.Auth, authAuto, authPolkit, authNone),
	} {
		wrong = append(wrong, record.Setting(key, err))
	}
	return errors.Join(wrong...)
}

// libvirtServer makes the front end for libvirt's clients.
func (l *life) libvirtServer(group *int, count *peer.Connections) *virtrpc.Server {
	return virtrpc.NewServer(l.service, virtrpc.Config{
		Log: l.Log.Named("libvirt"), URI: driverURI(), Group: members(group), Authority: l.authority, Cancel: l.Config.Libvirt.OnDisconnect == isCanceled,
		Silence: time.Duration(l.Config.Upload.Silence), Connections: count,
	})
}

// members gives the gid of those who may change something. Sockets that the service
// manager has made are open to everybody: where there is no such group nobody is in it.
func members(group *int) *int {
	if group == nil && os.Geteuid() == 0 {
		return new(-1)
	}
	return group
}

// libvirtURI is by what clients will reach the daemon, "" where they do not. It is called
// before listen.
func (s sockets) libvirtURI(c LibvirtConfig) string {
	switch {
	case s.libvirt != nil:
		return driverURI() + "?socket=" + s.libvirt.Addr().String()
	case s.main == nil && c.Listen:
		return driverURI() + "?socket=" + c.Socket
	case c.Takeover || s.standIn != nil:
		return driverURI()
	}
	return ""
}

// driverURI is what libvirt calls the storage of this host, or of this user.
func driverURI() string {
	if os.Geteuid() != 0 {
		return "storage:///session"
	}
	return "storage:///system"
}
