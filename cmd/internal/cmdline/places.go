package cmdline

import (
	"os"
	"path/filepath"
	"runtime/debug"
)

// Places are where a daemon keeps its things and where its clients find it.
type Places struct {
	Runtime string // sockets, directories of running jobs
	State   string // what must survive a reboot
	Config  string
}

// Socket is the main socket.
func (p Places) Socket() string { return filepath.Join(p.Runtime, "storaged.sock") }

// ReadOnlySocket is the one that everybody may use.
func (p Places) ReadOnlySocket() string { return filepath.Join(p.Runtime, "storaged-ro.sock") }

// ConfigFile is the daemon's.
func (p Places) ConfigFile() string { return filepath.Join(p.Config, "storaged.toml") }

// SystemPlaces are the system daemon's.
func SystemPlaces() Places {
	return Places{Runtime: "/run/storaged", State: "/var/lib/storaged", Config: "/etc/storaged"}
}

// UserPlaces are the session daemon's, by the XDG base directories. Without
// XDG_RUNTIME_DIR the runtime directory lies in the state directory.
func UserPlaces() Places {
	state := filepath.Join(xdg("XDG_STATE_HOME", ".local/state"), "storaged")
	p := Places{
		Runtime: filepath.Join(state, "run"),
		State:   state,
		Config:  filepath.Join(xdg("XDG_CONFIG_HOME", ".config"), "storaged"),
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		p.Runtime = filepath.Join(dir, "storaged")
	}
	return p
}

// xdg gives a base directory; a relative one is ignored, as the standard says.
func xdg(name, fallback string) string {
	if dir := os.Getenv(name); filepath.IsAbs(dir) {
		return dir
	}
	return filepath.Join(os.Getenv("HOME"), fallback)
}

// BuildVersion is the version of this program: the module's, or the commit it
// was built from.
func BuildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	version := info.Main.Version
	if version != "" && version != "(devel)" {
		return version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return "devel-" + s.Value[:12]
		}
	}
	return "devel"
}
