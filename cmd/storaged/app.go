package main

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"storaged/cmd/internal/build"
	"storaged/cmd/internal/cmdline"
	"storaged/internal/daemon"
	"storaged/internal/record"
)

// option is one setting: a flag, an environment variable, a key of the config
// file.
type option struct {
	name, usage string
	field       func(*daemon.Config) *string
}

var options = []option{
	{"socket", "listen for reading and writing at `PATH`", func(c *daemon.Config) *string { return &c.Socket }},
	{"socket-ro", "listen for reading at `PATH`", func(c *daemon.Config) *string { return &c.SocketRO }},
	{"state-dir", "keep records in `DIR`, which survives reboots", func(c *daemon.Config) *string { return &c.StateDir }},
	{"runtime-dir", "keep sockets and running jobs in `DIR`, which does not", func(c *daemon.Config) *string { return &c.RuntimeDir }},
	{"helper", "run jobs with the storage-helper at `PATH`", func(c *daemon.Config) *string { return &c.Helper }},
	{"log-level", "`LEVEL` is trace, debug, info, warn or error", func(c *daemon.Config) *string { return &c.LogLevel }},
	{"log-format", "`FORMAT` is text or json", func(c *daemon.Config) *string { return &c.LogFormat }},
}

// variable is that of the environment.
func (o option) variable() string {
	return "STORAGED_" + strings.ToUpper(strings.ReplaceAll(o.name, "-", "_"))
}

func newApp() *cli.App {
	app := &cli.App{
		Name:      "storaged",
		Usage:     "manage storage pools and volumes, with every long task a job",
		UsageText: "storaged [flags]",
		Description: "Root gets the system's daemon, anybody else one of their own. A flag goes before\n" +
			"its environment variable, which goes before the config file. On SIGTERM or SIGINT\n" +
			"the daemon leaves; running jobs go on and are found again by the next. On SIGHUP\n" +
			"it reads the config files again, and keeps the settings it has if something is wrong\n" +
			"with them: --check-config says what.",
		Version: build.Version(),
		Flags: []cli.Flag{&cli.StringFlag{
			Name: "config", EnvVars: []string{"STORAGED_CONFIG"}, Usage: "read settings from `FILE` (TOML), and then from FILE.d/*.toml",
		}, &cli.BoolFlag{
			Name: "check-config", Usage: "read the settings as the daemon would, say what is wrong with them, and leave",
		}},
		Action: run,
	}
	for _, o := range options {
		app.Flags = append(app.Flags, &cli.StringFlag{Name: o.name, EnvVars: []string{o.variable()}, Usage: o.usage})
	}
	return app
}

func run(c *cli.Context) error {
	if c.Args().Present() {
		return record.Errorf(record.Invalid, "storaged takes no arguments, not %q", c.Args().First())
	}
	config, err := settings(c)
	if c.Bool("check-config") {
		warn(c, daemon.Faults(config.CheckFiles()))
	}
	switch {
	case err != nil:
		return wrong(c, daemon.Faults(err))
	case c.Bool("check-config"):
		_, err := fmt.Fprintf(c.App.Writer, "the settings are right: %s\n", cmp.Or(strings.Join(config.Files, ", "), "those of a daemon without the file "+config.File))
		return err
	}
	l := newLogs(config, c.App.ErrWriter)
	return daemon.Run(c.Context, daemon.Setup{
		Config: config, Log: l.log, Notes: l.notes, Lost: l.lost.Load,
		Reload: func() (daemon.Config, error) { return settings(c) },
	})
}

// warn says what the daemon does without until it is needed.
func warn(c *cli.Context, faults []error) {
	for _, f := range faults {
		cmdline.Warn(c.App.ErrWriter, c.App.Name, f)
	}
}

// wrong says all that is wrong with the settings.
func wrong(c *cli.Context, faults []error) error {
	if len(faults) == 1 {
		return faults[0]
	}
	for _, f := range faults {
		cmdline.Report(c.App.ErrWriter, c.App.Name, "", f)
	}
	return record.Errorf(record.Invalid, "%d things are wrong with the settings", len(faults))
}

func settings(c *cli.Context) (daemon.Config, error) {
	config := daemon.DefaultConfig()
	config.Version = c.App.Version
	file, asked := config.File, c.IsSet("config")
	if asked {
		file = c.String("config")
	}
	err := config.Load(file, asked)
	for _, o := range options {
		if c.IsSet(o.name) {
			*o.field(&config) = c.String(o.name)
			config.Given(strings.ReplaceAll(o.name, "-", "_"), "--"+o.name+" or "+o.variable())
		}
	}
	return config, errors.Join(err, config.Complete())
}
