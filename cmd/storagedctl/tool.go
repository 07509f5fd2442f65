package main

import (
	"context"
	"errors"
	"io"
	"os"
	"regexp"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"storaged/cmd/internal/build"
	"storaged/cmd/internal/cmdline"
	"storaged/internal/record"
	"storaged/internal/rest/client"
	"storaged/internal/term"
)

// tool is storagedctl with what it touches of the world.
type tool struct {
	in       io.Reader
	out      io.Writer // results
	errs     io.Writer // everything else
	signals  func() (<-chan os.Signal, func())
	after    func(time.Duration) <-chan time.Time // time.After
	patience time.Duration                        // for a daemon that went away
}

const about = `A volume is POOL/NAME or its absolute path, a pool its name or uuid, a job its
number or uuid. Verbs that take several volumes that there are take patterns too, in
quotes: 'images/vm*'. Sizes are read as virsh reads them: K is 1024, KB is 1000, KiB
is 1024, a bare number is bytes; times are like 90s, 4h or 2d.

A verb that starts a job waits for its end. The first Ctrl-C cancels the job
and waits until that is done, a second one leaves at once; SIGTERM does the same.
Ctrl-\ (SIGQUIT) and SIGHUP leave and let the job go on. --detach does not wait.
"job wait", "job watch" and "events" only ever leave.`

const examples = `Examples:
  storagedctl pool create images --target /srv/images
  storagedctl vol create images/vm1.raw 10G
  storagedctl vol clone images/vm1.raw images/vm2.raw --limit 100M
  storagedctl list
  storagedctl kill 412
  storagedctl vol delete images/vm2.raw --yes`

// program is the tree of commands.
func (t *tool) program() cmdline.Program {
	app := &cli.App{
		Name: "storagedctl", Usage: "manage storage pools, volumes and the jobs on them",
		Description: about, Flags: globalFlags(), Version: build.Version(),
		Reader: t.in, Writer: t.out, ErrWriter: t.errs,
		Commands: append([]*cli.Command{t.poolCommand(), t.volumeCommand(), t.jobCommand(), t.secretCommand(), t.libvirtCommand()}, t.hostCommands()...),
	}
	agreeable(app.Commands)
	return cmdline.Program{App: app, Words: t.words(), Synonyms: synonyms(), Aliases: aliases(), Tail: examples, SeeAlso: []string{"storaged(8)", "storage-helper(8)"}}
}

// agreeable gives --yes to the verbs that change something and never ask: it is true there,
// and a script that has it with all that it does is no wrong script.
func agreeable(commands []*cli.Command) {
	for _, c := range commands {
		names := []string{}
		for _, f := range c.Flags {
			names = append(names, f.Names()...)
		}
		if slices.Contains(names, "dry-run") && !slices.Contains(names, "yes") {
			c.Flags = append(c.Flags, &cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Hidden: true})
		}
		agreeable(c.Subcommands)
	}
}

// synonyms are verbs that other programs have for what is done here by another, where
// it is not clear enough what is meant to do it.
func synonyms() map[string]string {
	return map[string]string{
		"vol grow": "resize", "vol extend": "resize", "vol shrink": "resize", "vol import": "create", "vol convert": "clone", "vol export": "download", "vol check": "verify", "vol repair": "verify", "vol remove": "delete", "vol rename": "move", "vol copy": "clone",
		"pool destroy": "stop", "pool add": "create", "pool remove": "undefine", "pool rm": "undefine",
		"job stop": "cancel", "job rm": "forget", "job continue": "resume",
		"snapshot rollback": "restore", "snapshot revert": "restore", "snapshot remove": "delete", "snapshot rm": "delete", "secret rm": "delete", "secret remove": "delete", "secret add": "set", "secret create": "set",
		"log": "job log", "show": "job show",
	}
}

// aliases are words of the shell and of virsh that do what is meant.
func aliases() map[string]cmdline.Alias {
	all := map[string]cmdline.Alias{}
	for typed, means := range map[string]string{
		"ls": "vol list", "rm": "vol delete", "cp": "vol clone", "mv": "vol move", "ps": "list", "jobs": "list", "pools": "pool list", "volumes": "vol list",
		"vol ls": "vol list", "vol rm": "vol delete", "vol cp": "vol clone", "vol mv": "vol move", "vol info": "vol show",
		"pool ls": "pool list", "pool info": "pool show", "job ls": "job list", "job info": "job show", "job kill": "job cancel",
		"pool-info": "pool show", "pool-dumpxml": "pool show -o xml", "pool-start": "pool start", "pool-destroy": "pool stop", "pool-refresh": "pool refresh",
		"pool-build": "pool build", "pool-autostart": "pool autostart", "pool-undefine": "pool undefine", "pool-delete": "pool delete", "pool-edit": "pool edit",
	} {
		all[typed] = cmdline.Alias{Means: means}
	}
	for typed, means := range map[string]string{
		"vol-info": "vol show", "vol-dumpxml": "vol show -o xml", "vol-clone": "vol clone", "vol-delete": "vol delete", "vol-resize": "vol resize",
		"vol-wipe": "vol wipe", "vol-upload": "vol upload", "vol-download": "vol download",
	} {
		all[typed] = cmdline.Alias{Means: means, Pool: "--pool"}
	}
	for _, typed := range []string{"cp", "vol cp", "vol-clone"} {
		a := all[typed]
		a.Most, a.More = 2, "vol clone SOURCE NEW…" // cp would have all but the last be sources
		all[typed] = a
	}
	all["pool-list"] = cmdline.Alias{Means: "pool list", Idle: []string{"--all", "--details"}}
	all["vol-list"] = cmdline.Alias{Means: "vol list", Pool: "--pool", Idle: []string{"--details"}}
	all["vol-create-as"] = cmdline.Alias{Means: "vol create", Joins: true}
	return all
}

func globalFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "the form of results: `table|json|jsonl|name|xml`"},
		&cli.StringFlag{Name: "columns", Usage: "the table's columns in order: `NAME,…`"},
		&cli.BoolFlag{Name: "no-headers", Usage: "leave the table's header out"},
		&cli.BoolFlag{Name: "wide", Usage: "cut nothing of the table, however narrow the terminal is"},
		&cli.StringFlag{Name: "sort", Usage: "order a list by `COLUMN|-COLUMN`, backwards with the dash"},
		&cli.BoolFlag{Name: "bytes", Usage: "print sizes as exact numbers of bytes"},
		&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "say errors only"},
		&cli.StringFlag{Name: "socket", Usage: "the daemon's socket; else STORAGED_SOCKET: `PATH`"},
		&cli.StringFlag{Name: "host", Usage: "the daemon of `[USER@]HOST`, or ssh://[USER@]HOST[:PORT], through ssh; else STORAGED_HOST"},
		&cli.BoolFlag{Name: "system", Usage: "use the system's daemon"},
		&cli.BoolFlag{Name: "user", Usage: "use the user's own daemon"},
	}
}

// session is one run of a verb: its flags, its daemon and its streams.
type session struct {
	*tool
	cli    *cli.Context
	client *client.Client
	notes  term.Output     // on stderr; nothing with --quiet
	format string          // of results: table, json, jsonl or name
	form   *form           // or by a template; nil: they are not
	said   map[string]bool // warnings of jobs
}

// reading makes an action of a verb that changes nothing: the read-only
// socket will do.
func (t *tool) reading(verb func(context.Context, *session) error) cli.ActionFunc {
	return t.action(true, verb)
}

// changing makes an action of a verb that changes something.
func (t *tool) changing(verb func(context.Context, *session) error) cli.ActionFunc {
	return t.action(false, verb)
}

func (t *tool) action(readOnly bool, verb func(context.Context, *session) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		if err := working(c); err != nil {
			return err
		}
		s, err := t.session(c, readOnly)
		if err != nil {
			return err
		}
		defer s.client.Close()
		return s.inFlags(unreached(choiceOf(c), os.Getuid(), verb(c.Context, s)))
	}
}

func (t *tool) session(c *cli.Context, readOnly bool) (*session, error) {
	s := &session{tool: t, cli: c, said: map[string]bool{}, format: c.String("output"), notes: cmdline.Output(t.errs)}
	if s.format == "" {
		s.format = "table"
	}
	var err error
	if s.form, err = formOf(c); err != nil {
		return nil, err
	}
	if c.Bool("quiet") {
		s.notes = term.Output{W: io.Discard, Now: time.Now}
	}
	if s.client, err = choiceOf(c).dial(c.Context, readOnly); err != nil {
		return nil, err
	}
	if c.Bool("fresh") {
		s.client = s.client.Fresh()
	}
	return s, nil
}

// memberIn finds in an error of the daemon the member of a request that it is about.
var memberIn = regexp.MustCompile(`\bfield "([a-z_]+)(\.[^"]*)?"`)

// inFlags tells an error about members of a request by the flags that these were given by.
func (s *session) inFlags(err error) error {
	e, ok := errors.AsType[*record.Error](err)
	if !ok {
		return err
	}
	was := err.Error()
	is := memberIn.ReplaceAllStringFunc(was, func(member string) string {
		if flag := record.FlagOf(memberIn.FindStringSubmatch(member)[1]); s.cli.IsSet(flag) {
			return "--" + flag
		}
		return member
	})
	if is == was {
		return err
	}
	said := *e
	said.Message = is
	return &said
}

// args are the verb's arguments.
func (s *session) args() []string { return s.cli.Args().Slice() }

func (s *session) arg(i int) string { return s.cli.Args().Get(i) }

// note says something that is no result and no error.
func (s *session) note(text string) { _, _ = io.WriteString(s.notes.W, term.Escape(text)+"\n") }
