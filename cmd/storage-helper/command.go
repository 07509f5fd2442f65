package main

import (
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"storaged/cmd/internal/build"
	"storaged/cmd/internal/cmdline"
	"storaged/internal/helper"
	"storaged/internal/helper/task"
	"storaged/internal/ipc"
	"storaged/internal/operation"
	"storaged/internal/record"
)

// commands are the tasks, one file each.
func commands() cmdline.Program {
	return cmdline.Program{
		App: &cli.App{
			Name: helper.Program,
			// A name may hold a comma.
			DisableSliceFlagSeparator: true,
			Usage:                     "does one storage task and exits",
			Description: "storaged starts it once per job; started by hand it works on plain paths, without a\n" +
				"daemon, and shows its progress. The directory of a path is the pool, its last part the\n" +
				"volume.",
			Commands: []*cli.Command{
				taskCommand(operation.NewCreate, task.Create),
				taskCommand(operation.NewClone, task.Clone),
				taskCommand(operation.NewConvert, task.Convert),
				taskCommand(operation.NewWipe, task.Wipe),
				taskCommand(operation.NewTrim, task.Trim),
				taskCommand(operation.NewRekey, task.Rekey),
				taskCommand(operation.NewResize, task.Resize),
				taskCommand(operation.NewDelete, task.Delete),
				taskCommand(operation.NewVerify, task.Verify),
				taskCommand(operation.NewCheck, task.Check),
				taskCommand(operation.NewLook, task.Look),
				taskCommand(operation.NewUpload, task.Upload),
				taskCommand(operation.NewDownload, task.Download),
				taskCommand(operation.NewMove, task.Move),
				taskCommand(operation.NewFlatten, task.Flatten),
				taskCommand(operation.NewRebase, task.Rebase),
				taskCommand(operation.NewSnapshotCreate, task.SnapshotCreate),
				taskCommand(operation.NewSnapshotRestore, task.SnapshotRestore),
				taskCommand(operation.NewSnapshotDelete, task.SnapshotDelete),
				taskCommand(operation.NewPoolBuild, task.PoolBuild),
				taskCommand(operation.NewPoolStart, task.PoolStart),
				taskCommand(operation.NewPoolStop, task.PoolStop),
				taskCommand(operation.NewPoolRefresh, task.PoolRefresh),
				taskCommand(operation.NewSpace, task.PoolSpace),
				taskCommand(operation.NewReady, task.PoolReady),
				taskCommand(operation.NewFindSources, task.FindSources),
				taskCommand(operation.NewPoolVerify, task.PoolVerify),
				taskCommand(operation.NewEvacuate, task.Evacuate),
				taskCommand(operation.NewPoolDelete, task.PoolDelete),
				taskCommand(operation.NewSettle, task.Settle),
			},
		},
		Tail:    signals,
		Alone:   true,
		SeeAlso: []string{"storaged(8)", "storagedctl(8)"},
	}
}

// signals are those that every task answers.
const signals = `Signals:
  SIGINT, SIGTERM   cancel: undo what can be undone and exit with 130; by hand a
                    second one leaves at once
  SIGUSR1           report progress now
  SIGUSR2           pause; once more: resume`

// taskCommand makes a command of a task. Its flags fill the operation that blank
// gives, and build makes the work of that.
func taskCommand[O task.Tasked](blank func() O, build func(O) (helper.Task, error)) *cli.Command {
	t := blank().Task()
	c := &cli.Command{
		Name: t.Name, Usage: t.Usage,
		Description: strings.TrimSpace(t.Description + "\n\nExample:\n  " + helper.Program + " " + t.Name + " " + t.Example),
	}
	for _, f := range t.Flags {
		c.Flags = append(c.Flags, cliFlag(f))
	}
	if t.Asks {
		c.Flags = append(c.Flags, &cli.BoolFlag{Name: "yes", Usage: "do not ask (needed where there is no terminal)"})
	}
	c.Flags = append(c.Flags,
		&cli.StringFlag{Name: "limit", Usage: "move no more than `RATE`, like 100M/s"},
		&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Value: "text", Usage: "the form of the result (default text): `text|json`"},
	)
	c.Action = func(c *cli.Context) error {
		o := blank()
		if err := fill(o, c); err != nil {
			return err
		}
		t, err := build(o)
		if err != nil {
			return err
		}
		return perform(c, t)
	}
	return c
}

// cliFlag makes a flag of the command line of a task's.
func cliFlag(f operation.Flag) cli.Flag {
	usage := f.Usage
	if before, value, ok := strings.Cut(usage, ": `"); ok && f.Default != "" {
		usage = before + " (default " + f.Default + "): `" + value
	} else if f.Default != "" {
		usage += ", default " + f.Default
	}
	switch {
	case f.Switch():
		return &cli.BoolFlag{Name: f.Name, Usage: usage}
	case f.Repeats():
		return &cli.StringSliceFlag{Name: f.Name, Usage: usage, KeepSpace: true} // a name may begin with one
	}
	return &cli.StringFlag{Name: f.Name, Value: f.Default, Usage: usage}
}

// fill sets the fields of an operation to the flags that were given.
func fill(o task.Tasked, c *cli.Context) error {
	for _, f := range o.Task().Flags {
		if !c.IsSet(f.Name) {
			continue
		}
		values := []string{c.String(f.Name)}
		switch {
		case f.Switch():
			values = []string{strconv.FormatBool(c.Bool(f.Name))}
		case f.Repeats():
			values = c.StringSlice(f.Name)
		}
		for _, v := range values {
			if err := f.Set(v); err != nil {
				return record.Errorf(record.Invalid, "%s", err)
			}
		}
	}
	return nil
}

// perform runs a task in the mode in which we were started.
func perform(c *cli.Context, t helper.Task) error {
	if dir, ok := ipc.JobDirFromEnv(); ok {
		return helper.RunJob(dir, build.Version(), t)
	}
	o := helper.ManualOptions{JSON: c.String("output") == "json", Yes: c.Bool("yes")}
	if rate := cmdline.Size(c, "limit"); rate != nil {
		o.Limit = *rate
	}
	return helper.RunManually(t, o)
}
