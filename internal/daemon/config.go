package daemon

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"

	"storaged/internal/notify"
	"storaged/internal/quantity"
	"storaged/internal/record"
	"storaged/internal/service"
)

// Config is how a daemon is set up. Each field is a flag, an environment
// variable and a key of the config file; see storaged --help.
type Config struct {
	service.Settings

	SocketRO  string `toml:"socket_ro"`  // read only
	Group     string `toml:"group"`      // of the main socket, when root
	LogLevel  string `toml:"log_level"`  // trace, debug, info, warn, error
	LogFormat string `toml:"log_format"` // text, json

	Stop    StopConfig    `toml:"stop"`
	Upload  UploadConfig  `toml:"upload"`
	Libvirt LibvirtConfig `toml:"libvirt"`

	Notify    []NotifyConfig    `toml:"notify"`
	receivers []notify.Receiver // those of Notify, complete

	Files  []string         `toml:"-"` // that were read
	places map[string]place // where settings are, by key
	unread []string         // keys of those that cannot be read: what they are to be is not known
}

// UploadConfig says what is asked of clients that upload a stream.
type UploadConfig struct {
	Silence quantity.Duration `toml:"silence"` // how long one may send nothing; 0: for ever
}

// defaultSilence is longer than what feeds a pipe is silent while it lives, a dump
// that sorts first or a tape that somebody changes, and shorter than a volume should
// be held by a login that was forgotten.
const defaultSilence = quantity.Duration(time.Hour)

// StopConfig says what the daemon does when it is told to leave.
type StopConfig struct {
	Drain quantity.Duration `toml:"drain"` // how long to wait for running jobs; 0: not at all
}

// DefaultConfig is the system's daemon for root, and for others one of their
// own (session mode).
func DefaultConfig() Config {
	c := systemConfig()
	if os.Geteuid() != 0 {
		c.session()
	}
	return c
}

// systemConfig is that of the system's daemon.
func systemConfig() Config {
	c := Config{Settings: service.DefaultSettings(), Group: "storaged", LogLevel: "info", LogFormat: "text", Upload: UploadConfig{Silence: defaultSilence}, Libvirt: defaultLibvirt()}
	c.File, c.StateDir, c.RuntimeDir = "/etc/storaged/storaged.toml", "/var/lib/storaged", "/run/storaged"
	return c
}

// session makes it that of a user's own.
func (c *Config) session() {
	home := os.Getenv("HOME")
	c.StateDir = filepath.Join(xdg("XDG_STATE_HOME", filepath.Join(home, ".local/state")), "storaged")
	c.RuntimeDir = filepath.Join(xdg("XDG_RUNTIME_DIR", filepath.Join(c.StateDir, "run")), "storaged")
	c.File = filepath.Join(xdg("XDG_CONFIG_HOME", filepath.Join(home, ".config")), "storaged/storaged.toml")
	c.Group = ""
	c.Libvirt.Listen = false
	c.Libvirt.RunDir = filepath.Join(xdg("XDG_RUNTIME_DIR", filepath.Join(home, ".cache")), "libvirt")
}

func xdg(name, fallback string) string {
	if dir := os.Getenv(name); filepath.IsAbs(dir) {
		return dir
	}
	return fallback
}

// Complete fills in what follows from other settings, and checks them. The error is all that
// is wrong, see Faults.
func (c *Config) Complete() error {
	c.completeSockets()
	if c.Helper == "" {
		c.Helper = findHelper()
	}
	return c.located(errors.Join(c.completePaths(), c.Libvirt.complete(c.Socket), c.completeReceivers(), c.checkHelper(), c.checkGroup(), c.checkLog(), c.Settings.Check()))
}

// completeSockets has sockets that are not set lie beside each other.
func (c *Config) completeSockets() {
	c.Socket = cmp.Or(c.Socket, filepath.Join(c.RuntimeDir, "storaged.sock"))
	c.SocketRO = cmp.Or(c.SocketRO, filepath.Join(filepath.Dir(c.Socket), "storaged-ro.sock"))
}

// completePaths makes paths absolute. One of a command line begins in the directory where that
// was typed; one in a file would depend on who starts the daemon.
func (c *Config) completePaths() error {
	var wrong []error
	for key, path := range map[string]*string{
		"state_dir": &c.StateDir, "runtime_dir": &c.RuntimeDir, "socket": &c.Socket, "socket_ro": &c.SocketRO, "helper": &c.Helper,
	} {
		if at := c.places[key]; at.line > 0 && !filepath.IsAbs(*path) {
			wrong = append(wrong, record.BadSetting(key, "%s is an absolute path, not %q", key, *path))
			continue
		}
		abs, err := filepath.Abs(*path)
		if err != nil {
			return fmt.Errorf("cannot resolve %s: %w", key, err)
		}
		*path = abs
	}
	return errors.Join(wrong...)
}

// CheckFiles checks the files of others that settings name, programs that are to be told of
// something and what they are told by. The daemon needs none before there is something to
// tell: it starts without them, and says then what is wrong. The error, which is to be warned
// of, is as that of Complete.
func (c *Config) CheckFiles() error { return c.located(notify.CheckFiles(c.receivers)) }

func (c *Config) checkHelper() error {
	if st, err := os.Stat(c.Helper); err != nil || st.IsDir() || st.Mode()&0o111 == 0 {
		return record.Setting("helper", record.Errorf(record.Invalid, "no helper program at %q", c.Helper).
			WithHint("--helper PATH, the storage-helper that belongs to this storaged"))
	}
	return nil
}

func (c *Config) checkGroup() error {
	_, err := groupOf(*c)
	return err
}

func (c *Config) checkLog() (err error) {
	if logLevel(c.LogLevel) == hclog.NoLevel {
		err = record.BadSetting("log_level", "log level is trace, debug, info, warn or error, not %q", c.LogLevel)
	}
	if c.LogFormat != "text" && c.LogFormat != "json" {
		err = errors.Join(err, record.BadSetting("log_format", "log format is text or json, not %q", c.LogFormat))
	}
	return err
}

func logLevel(name string) hclog.Level { return hclog.LevelFromString(name) }

// installedHelper is where packages put it.
const installedHelper = "/usr/libexec/storaged/storage-helper"

// findHelper prefers the helper beside this program: they were built together.
func findHelper() string {
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), "storage-helper")
		if _, err := os.Stat(beside); err == nil {
			return beside
		}
	}
	return installedHelper
}
