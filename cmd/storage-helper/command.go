package main

import (
	"fmt"
	"strings"
	"sync"

	"github.com/urfave/cli/v2"

	"storaged/cmd/internal/cmdline"
	"storaged/internal/backends"
	"storaged/internal/ipc"
	"storaged/internal/record"
)

// commands are the tasks, one file each.
func commands() cmdline.Program {
	return cmdline.Program{
		App: &cli.App{
			Name: program,
			// A name may hold a comma.
			DisableSliceFlagSeparator: true,
			Usage:                     "does one storage task and exits",
			Description: "storaged starts it once per job; started by hand it works on plain paths, without a\n" +
				"daemon, and shows its progress. The directory of a path is the pool, its last part the\n" +
				"volume.",
			Commands: []*cli.Command{
				allocateCommand(), cloneCommand(), wipeCommand(), resizeCommand(), deleteCommand(), verifyCommand(), lookCommand(),
				uploadCommand(), downloadCommand(), moveCommand(),
				poolBuildCommand(), poolStartCommand(), poolStopCommand(), poolRefreshCommand(), poolSpaceCommand(), poolVerifyCommand(), evacuateCommand(), poolDeleteCommand(),
				settleCommand(),
			},
		},
		Tail:    signals,
		SeeAlso: []string{"storaged(8)", "storagedctl(8)"},
	}
}

// signals is said in every task's help.
const signals = `Signals:
  SIGINT, SIGTERM   cancel: undo what can be undone and exit with 130; by hand a
                    second one leaves at once
  SIGUSR1           report progress now
  SIGUSR2           pause; once more: resume`

// taskCommand makes a command of a task. The description says what no flag can,
// example is one line.
func taskCommand(c cli.Command, example string, build func(c *cli.Context) (task, error)) *cli.Command {
	c.Description = strings.Join([]string{
		strings.TrimSpace(c.Description), signals, exitCodes(), "Example:\n  " + program + " " + c.Name + " " + example,
	}, "\n\n")
	c.Flags = append(c.Flags,
		&cli.StringFlag{Name: "limit", Usage: "move no more than `RATE`, like 100M/s"},
		&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Value: "text", Usage: "result as `text|json`, default text"},
	)
	c.Action = func(c *cli.Context) error {
		t, err := build(c)
		if err != nil {
			return err
		}
		return perform(c, t)
	}
	return &c
}

// exitCodes is the table of exit codes, as every task's help has it.
var exitCodes = sync.OnceValue(func() string {
	var b strings.Builder
	b.WriteString("Exit codes:")
	for _, e := range cmdline.ExitCodes() {
		fmt.Fprintf(&b, "\n  %3d  %s", e.Code, e.Text)
	}
	return b.String()
})

// perform runs a task in the mode in which we were started.
func perform(c *cli.Context, t task) error {
	if dir, ok := ipc.JobDirFromEnv(); ok {
		return runJob(dir, t)
	}
	o := handOptions{json: c.String("output") == "json", yes: c.Bool("yes")}
	if rate := cmdline.Size(c, "limit"); rate != nil {
		o.limit = *rate
	}
	return runByHand(t, o)
}

func targetFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "target", Usage: "`PATH` of the volume"},
		&cli.StringFlag{Name: "target-type", Value: "dir", Usage: "`TYPE` of its pool, default dir"},
		poolIDFlag("pool-id", "the pool"),
	}
}

// sourceFlags name the volume that a task copies or moves.
func sourceFlags(to string) []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "source", Usage: "`PATH` of the volume to " + to},
		&cli.StringFlag{Name: "source-type", Value: "dir", Usage: "`TYPE` of its pool, default dir"},
		poolIDFlag("source-pool-id", "its pool"),
	}
}

// poolIDFlag is how the daemon says which directory a pool was started with.
func poolIDFlag(name, whose string) cli.Flag {
	return &cli.StringFlag{Name: name, Usage: "refuse unless the directory of " + whose + " is `DEVICE:INODE[:STAMP]` (0 is any)"}
}

// poolID reads such a flag; without it any directory will do.
func poolID(c *cli.Context, flag string) (backends.PoolID, error) {
	if c.String(flag) == "" {
		return backends.PoolID{}, nil
	}
	id, err := backends.ParsePoolID(c.String(flag))
	if err != nil {
		return id, record.Errorf(record.Invalid, "--%s: %s", flag, err)
	}
	return id, nil
}

func onFailureFlag() cli.Flag {
	return &cli.StringFlag{
		Name: "on-failure", Value: string(record.RollbackOnFailure),
		Usage: "what becomes of what is unfinished: `rollback|keep`, default rollback",
	}
}

// resumeFlag is how the daemon says that the job had begun already.
func resumeFlag() cli.Flag {
	return &cli.BoolFlag{Name: "resume", Usage: "go on where the job was interrupted, if that is safe; as a job of storaged only"}
}

func keeps(c *cli.Context) bool { return c.String("on-failure") == string(record.KeepOnFailure) }

// left says what a cancel leaves of a new volume.
func left(c *cli.Context, at place) string {
	if keeps(c) {
		return fmt.Sprintf("what is written of %q is kept; it is not complete", at.path)
	}
	return fmt.Sprintf("%q is not made", at.path)
}

func yesFlag() cli.Flag {
	return &cli.BoolFlag{Name: "yes", Usage: "do not ask (needed where there is no terminal)"}
}

// target finds the volume of --target.
func target(c *cli.Context) (place, error) {
	path, err := needed(c, "target")
	if err != nil {
		return place{}, err
	}
	at, err := placeOf(path, c.String("target-type"))
	if err == nil {
		at.pool.ID, err = poolID(c, "pool-id")
	}
	return at, err
}

// source finds the volume of --source.
func source(c *cli.Context) (place, error) {
	path, err := needed(c, "source")
	if err != nil {
		return place{}, err
	}
	at, err := placeOf(path, c.String("source-type"))
	if err == nil {
		at.pool.ID, err = poolID(c, "source-pool-id")
	}
	return at, err
}

// needed gives a flag that must be there.
func needed(c *cli.Context, flag string) (string, error) {
	if v := c.String(flag); v != "" {
		return v, nil
	}
	return "", cmdline.Usagef("%q needs --%s", program+" "+c.Command.Name, flag).
		WithHint("%s %s --help", program, c.Command.Name)
}

// neededSize gives a size that must be there, in bytes.
func neededSize(c *cli.Context, flag string) (int64, error) {
	if _, err := needed(c, flag); err != nil {
		return 0, err
	}
	n := cmdline.Size(c, flag)
	if n == nil {
		return 0, record.Errorf(record.Invalid, "--%s %q is no size", flag, c.String(flag))
	}
	return *n, nil
}
