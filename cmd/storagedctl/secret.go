package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"storaged/cmd/internal/cmdline"
	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/term"
)

func (t *tool) secretCommand() *cli.Command {
	return &cli.Command{
		Name: "secret", Usage: "passphrases and keys, by name",
		Description: "Volumes refer to a secret by its name. What it is, the daemon gives to nobody but its helpers.",
		Subcommands: []*cli.Command{
			{Name: "list", Usage: "list their names, and what they open", Flags: []cli.Flag{templateFlag()}, Action: t.changing(secretList)}, // not for everybody
			{
				Name: "set", Usage: "keep a secret", ArgsUsage: "SECRET",
				Description: "All of the file is the secret, a newline at its end too. One that opens a volume is not replaced:\n" +
					"vol rekey has another one open it.\n\n" +
					"Examples:\n  storagedctl secret set disks --file /root/disks.key\n  gpg --decrypt disks.key.gpg | storagedctl secret set disks --file -",
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "file", Usage: "the secret, - is standard input: `FILE|-`"},
					&cli.BoolFlag{Name: "dry-run", Usage: "say what would be changed, and do nothing"},
				},
				Action: t.changing(secretSet),
			},
			{
				Name: "delete", Usage: "delete a secret that opens no volume, and by which no pool logs in", ArgsUsage: "SECRET",
				Flags:  []cli.Flag{yesFlag(), &cli.BoolFlag{Name: "dry-run", Usage: "say what would be deleted, and do nothing"}},
				Action: t.changing(secretDelete),
			},
		},
	}
}

var secretShape = shape[record.Secret]{
	columns: []term.Column[record.Secret]{
		{Name: "secret", Weight: 2, Cell: func(k record.Secret) string { return k.Name }},
		timed(term.Column[record.Secret]{Name: "set"}, func(k record.Secret) *time.Time { return &k.Set }),
		{Name: "uses", Right: true, Cell: func(k record.Secret) string { return fmt.Sprint(k.Uses) }, Order: byValue(func(k record.Secret) int { return k.Uses })},
		{Name: "used-by", Weight: 4, Cell: func(k record.Secret) string { return strings.Join(k.UsedBy, ", ") }},
	},
	name: func(k record.Secret) string { return k.Name },
}

func secretList(ctx context.Context, s *session) error {
	all, err := s.client.Secrets(ctx)
	if err != nil {
		return err
	}
	return printList(s, secretShape, all)
}

func secretSet(ctx context.Context, s *session) error {
	name := s.arg(0)
	value, err := s.secretFrom(s.cli.String("file"))
	if err != nil {
		return err
	}
	defer clear(value)
	if strings.HasSuffix(string(value), "\n") {
		s.note("the secret ends with a newline, which is part of it")
	}
	size := len(value) // which is wiped
	k, err := s.client.SetSecret(ctx, s.trying(), name, value)
	if err != nil {
		return err
	}
	if s.cli.Bool("dry-run") {
		s.note(fmt.Sprintf("would keep secret %s of %d bytes", name, size))
		return nil
	}
	s.note("secret " + k.Name + " is kept")
	if k.Uses > 0 {
		s.note(fmt.Sprintf("it is what opens %s; storagedctl vol rekey %s --opened-by %s tries whether it does", strings.Join(k.UsedBy, ", "), k.UsedBy[0], k.Name))
	}
	return s.printChanged(k.Name, k)
}

// secretFrom reads a secret. What is wrong with it is said without it.
func (s *session) secretFrom(file string) ([]byte, error) {
	in := s.in
	switch file {
	case "":
		return nil, cmdline.Usagef("--file is missing: a secret is in a file, or comes from standard input (-)")
	case "-":
	default:
		f, err := os.Open(file)
		if err != nil {
			return nil, cmdline.Usagef("cannot read the secret: %v", err)
		}
		defer f.Close() // it was only read
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, record.MaxSecret+1))
	switch {
	case err != nil:
		return nil, cmdline.Usagef("cannot read the secret: %v", err)
	case len(b) == 0:
		return nil, cmdline.Usagef("the secret is empty")
	case len(b) > record.MaxSecret:
		return nil, cmdline.Usagef("the secret is longer than %d bytes", record.MaxSecret)
	}
	return b, nil
}

func secretDelete(ctx context.Context, s *session) error {
	name := s.arg(0)
	if s.cli.Bool("dry-run") {
		if err := s.client.DeleteSecret(ctx, s.trying(), name); err != nil {
			return err
		}
		s.note("would delete secret " + name)
		return nil
	}
	lost := func(ctx context.Context) ([]string, error) {
		err := s.client.DeleteSecret(ctx, contract.Submit{DryRun: true}, name)
		return []string{name + ": what it alone opens, in pools that are not defined now too, nobody opens again"}, err
	}
	if err := s.confirm(ctx, ruin{what: "deletes secret " + name, list: lost}); err != nil {
		return err
	}
	if err := s.client.DeleteSecret(ctx, s.trying(), name); err != nil {
		return err
	}
	s.note("secret " + name + " is deleted")
	return s.printChanged(name, struct {
		Name string `json:"name"`
	}{name})
}

// trying says that nothing is to be changed, where that was said.
func (s *session) trying() contract.Submit { return contract.Submit{DryRun: s.cli.Bool("dry-run")} }
