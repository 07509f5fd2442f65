package main

import (
	"os"
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

// kind is a task under its name.
type kind struct {
	name    string
	command func() *cli.Command
	// read makes the task of what Argv of package operation has written.
	read func(argv []string) (helper.Task, error)
}

// kinds are the tasks, one file each.
func kinds() []kind {
	return []kind{
		of("allocate", operation.NewCreate, task.Create),
		of("clone", operation.NewClone, task.Clone),
		of("convert", operation.NewConvert, task.Convert),
		of("wipe", operation.NewWipe, task.Wipe),
		of("trim", operation.NewTrim, task.Trim),
		of("rekey", operation.NewRekey, task.Rekey),
		of("resize", operation.NewResize, task.Resize),
		of("delete", operation.NewDelete, task.Delete),
		of("verify", operation.NewVerify, task.Verify),
		of("check", operation.NewCheck, task.Check),
		of("upload", operation.NewUpload, task.Upload),
		of("overwrite", operation.NewOver, task.Overwrite),
		of("download", operation.NewDownload, task.Download),
		of("move", operation.NewMove, task.Move),
		of("flatten", operation.NewFlatten, task.Flatten),
		of("rebase", operation.NewRebase, task.Rebase),
		of("snapshot", operation.NewSnapshotCreate, task.SnapshotCreate),
		of("restore", operation.NewSnapshotRestore, task.SnapshotRestore),
		of("delete-snapshot", operation.NewSnapshotDelete, task.SnapshotDelete),
		of("pool-build", operation.NewPoolBuild, task.PoolBuild),
		of("pool-start", operation.NewPoolStart, task.PoolStart),
		of("pool-stop", operation.NewPoolStop, task.PoolStop),
		of("pool-refresh", operation.NewPoolRefresh, task.PoolRefresh),
		of("pool-look", operation.NewPoolLook, task.PoolLook),
		of("pool-space", operation.NewSpace, task.PoolSpace),
		of("pool-ready", operation.NewReady, task.PoolReady),
		of("pool-sources", operation.NewFindSources, task.FindSources),
		of("pool-verify", operation.NewPoolVerify, task.PoolVerify),
		of("evacuate", operation.NewEvacuate, task.Evacuate),
		of("pool-delete", operation.NewPoolDelete, task.PoolDelete),
		of("settle", operation.NewSettle, task.Settle),
	}
}

// of is the task of an operation: blank gives one to be filled by flags, and build makes the
// work of that.
func of[O task.Tasked](name string, blank func() O, build func(O) (helper.Task, error)) kind {
	return kind{
		name:    name,
		command: func() *cli.Command { return taskCommand(blank, build) },
		read: func(argv []string) (t helper.Task, err error) {
			o := blank()
			if err := o.Task().Read(argv); err != nil {
				return t, err
			}
			return build(o)
		},
	}
}

// work does the task of a command line as the job of dir, and gives the exit code. It makes
// no commands, which takes longer than to make a volume. A command line that is none of
// this daemon's comes back with ok false, for those to say what is wrong with it.
func work(dir ipc.JobDir, argv []string) (code int, ok bool) {
	for _, k := range kinds() {
		if len(argv) == 0 || k.name != argv[0] {
			continue
		}
		t, err := k.read(argv[1:])
		if err != nil {
			break
		}
		if err = helper.RunJob(dir, build.Version(), t); err != nil {
			cmdline.Report(os.Stderr, helper.Program, "", err)
		}
		return cmdline.ExitCode(err), true
	}
	return 0, false
}

// commands are the tasks for people.
func commands() cmdline.Program {
	var all []*cli.Command
	for _, k := range kinds() {
		all = append(all, k.command())
	}
	return cmdline.Program{
		App: &cli.App{
			Name: helper.Program,
			// A name may hold a comma.
			DisableSliceFlagSeparator: true,
			Usage:                     "does one storage task and exits",
			Description: "storaged starts it once per job; started by hand it works on plain paths, without a\n" +
				"daemon, and shows its progress. The directory of a path is the pool, its last part the\n" +
				"volume.",
			Commands: all,
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
