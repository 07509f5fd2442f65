package daemon

import (
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"

	"storaged/internal/notify"
	"storaged/internal/quantity"
	"storaged/internal/record"
)

// NotifyConfig is a receiver of notices: a program, or a web server.
type NotifyConfig struct {
	Name    string            `toml:"name"`
	Timeout quantity.Duration `toml:"timeout"` // of one run, or request

	Program []string `toml:"program"` // argv
	User    string   `toml:"user"`    // that it runs as

	URL          string `toml:"url"`
	URLFile      string `toml:"url_file"` // with that, for who may not know it
	CAFile       string `toml:"ca_file"`
	SecretHeader string `toml:"secret_header"`
	SecretFile   string `toml:"secret_file"` // with the value of that header

	// What it is told: of each key one, of all keys.
	Priority record.Urgency    `toml:"priority"` // the least
	Events   []string          `toml:"events"`
	Kinds    []string          `toml:"kinds"`
	Outcomes []string          `toml:"outcomes"`
	Owners   []string          `toml:"owners"`
	Labels   map[string]string `toml:"labels"`
}

// completeReceivers checks the receivers of notices.
func (c *Config) completeReceivers() error {
	c.receivers = nil
	for _, n := range c.Notify {
		c.receivers = append(c.receivers, notify.Receiver{
			Name: n.Name, Timeout: time.Duration(n.Timeout), Program: n.Program, User: n.User,
			URL: n.URL, URLFile: n.URLFile, CAFile: n.CAFile, SecretHeader: n.SecretHeader, SecretFile: n.SecretFile,
			Filter: notify.Filter{Priority: n.Priority, Events: n.Events, Kinds: n.Kinds, Outcomes: n.Outcomes, Owners: n.Owners, Labels: n.Labels},
		})
	}
	return notify.Complete(c.receivers)
}

// newNotifier has the receivers told.
func newNotifier(c Config, log hclog.Logger) *notify.Notifier {
	host, err := os.Hostname()
	logged(log, "asking for the name of this host", err)
	n := notify.New(notify.Setup{Dir: filepath.Join(c.StateDir, "notify"), Host: host, Version: c.Version, Log: log.Named("notify")})
	n.Apply(c.receivers)
	return n
}
