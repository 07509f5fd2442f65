package main

import (
	"strings"

	"github.com/urfave/cli/v2"

	"storaged/cmd/internal/build"
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

func newApp() *cli.App {
	app := &cli.App{
		Name:      "storaged",
		Usage:     "manage storage pools and volumes, with every long task a job",
		UsageText: "storaged [flags]",
		Description: "Root gets the system's daemon, anybody else one of their own. A flag goes before\n" +
			"its environment variable, which goes before the config file. On SIGTERM or SIGINT\n" +
			"the daemon leaves; running jobs go on and are found again by the next. On SIGHUP\n" +
			"it reads the config file again.",
		Version: build.Version(),
		Flags: []cli.Flag{&cli.StringFlag{
			Name: "config", EnvVars: []string{"STORAGED_CONFIG"}, Usage: "read settings from `FILE` (TOML)",
		}},
		Action: run,
	}
	for _, o := range options {
		env := "STORAGED_" + strings.ToUpper(strings.ReplaceAll(o.name, "-", "_"))
		app.Flags = append(app.Flags, &cli.StringFlag{Name: o.name, EnvVars: []string{env}, Usage: o.usage})
	}
	return app
}

func run(c *cli.Context) error {
	if c.Args().Present() {
		return record.Errorf(record.Invalid, "storaged takes no arguments, not %q", c.Args().First())
	}
	config, err := settings(c)
	if err != nil {
		return err
	}
	l := newLogs(config, c.App.ErrWriter)
	return daemon.Run(c.Context, daemon.Setup{
		Config: config, Log: l.log, Notes: l.notes, Lost: l.lost.Load,
		Reload: func() (daemon.Config, error) { return settings(c) },
	})
}

func settings(c *cli.Context) (daemon.Config, error) {
	config := daemon.DefaultConfig()
	config.Version = c.App.Version
	file, asked := config.File, c.IsSet("config")
	if asked {
		file = c.String("config")
	}
	if err := config.Load(file, asked); err != nil {
		return config, err
	}
	for _, o := range options {
		if c.IsSet(o.name) {
			*o.field(&config) = c.String(o.name)
		}
	}
	return config, config.Complete()
}
