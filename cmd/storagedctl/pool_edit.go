package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/urfave/cli/v2"

	"storaged/cmd/internal/cmdline"
	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/virtxml"
)

func (t *tool) editVerb() *cli.Command {
	return &cli.Command{
		Name: "edit", Usage: "change the definition of a pool", ArgsUsage: "POOL",
		Description: "The definition is opened in $VISUAL or $EDITOR, or else in vi: as libvirt's XML, or with -o json as JSON.\n" +
			"Name, uuid and type stay, and no storage is touched. Of a pool in use it holds from when that is stopped.\n" +
			"With -f the new definition comes from a file.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "file", Aliases: []string{"f"}, Usage: "take the definition from a file: `FILE|-`"},
			&cli.BoolFlag{Name: "dry-run", Usage: "say what would be changed, and do nothing"},
		},
		Action: t.changing(poolEdit),
	}
}

func poolEdit(ctx context.Context, s *session) error {
	p, err := s.client.Pool(ctx, s.arg(0))
	if err != nil {
		return err
	}
	if file := s.cli.String("file"); file != "" {
		def, err := s.readDefinition(file)
		if err != nil {
			return err
		}
		return s.redefine(ctx, p, def)
	}
	if !isTerminal(s.in) && len(chosenEditor()) == 0 {
		return cmdline.Usagef("to edit pool %q needs a terminal for %s; nothing was changed", p.Name, lastEditor).
			WithHint("give the definition with -f FILE, as pool show -o xml prints it, or set EDITOR to a program that needs no terminal")
	}
	e := edit{session: s, pool: p}
	defer e.forget()
	return e.run(ctx)
}

// redefine gives a pool another definition, unless somebody else has changed it since.
func (s *session) redefine(ctx context.Context, p record.Pool, def contract.PoolDefine) error {
	if def.Autostart == nil {
		def.Autostart = &p.Autostart
	}
	if s.cli.Bool("dry-run") {
		s.note(fmt.Sprintf("would define pool %s anew (%s); no storage is touched", p.Name, def.Target.Path))
		return nil
	}
	sub := s.submission(p.Name, false)
	sub.IfMatch = p.Generation
	p, err := s.client.ReplacePool(ctx, sub, p.Name, def)
	if err != nil {
		return err
	}
	when := ""
	if p.Next != nil {
		when = ", from its next start on"
	}
	s.note("pool " + p.Name + " is defined anew" + when)
	return nil
}

// edit is a definition on its way through an editor.
type edit struct {
	*session
	pool record.Pool
	file string // that is edited; "": there is none, or it is to stay
}

func (e *edit) run(ctx context.Context) error {
	was, err := e.document()
	if err != nil {
		return err
	}
	is, err := e.through(ctx, was)
	if err != nil {
		return err
	}
	if is == was {
		e.note("pool " + e.pool.Name + ": nothing was changed")
		return nil
	}
	def, err := decodeDefinition([]byte(is))
	if err == nil {
		err = e.redefine(ctx, e.pool, def)
	}
	if err != nil { // what somebody wrote is not thrown away
		e.note("what you wrote is in " + e.file)
		e.file = ""
	}
	return err
}

// document is what is edited.
func (e *edit) document() (string, error) {
	if next := e.pool.Next; next != nil {
		e.pool.Target, e.pool.Source, e.pool.Next = next.Target, next.Source, nil
	}
	if e.pool.Permissions = nil; e.format != "json" { // what is, is no definition
		return virtxml.OfPool(e.pool).Format(), nil
	}
	b, err := json.MarshalIndent(e.pool, "", "  ")
	return string(b) + "\n", err
}

// through gives what somebody made of a text.
func (e *edit) through(ctx context.Context, text string) (string, error) {
	f, err := os.CreateTemp("", "storagedctl-"+e.pool.Name+"-*")
	if err != nil {
		return "", fmt.Errorf("cannot make a file to edit: %w", err)
	}
	e.file = f.Name()
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Close()); err != nil {
		return "", fmt.Errorf("cannot write %s to edit it: %w", e.file, err)
	}
	words := append(editor(), e.file)
	c := exec.CommandContext(ctx, words[0], words[1:]...)
	c.Stdin, c.Stdout, c.Stderr = e.in, direct(e.out), direct(e.errs)
	if err := c.Run(); err != nil {
		return "", cmdline.Usagef("editor %q: %v; nothing was changed", strings.Join(words[:len(words)-1], " "), err).
			WithHint("set EDITOR to one that there is, or give the definition with -f FILE")
	}
	b, err := os.ReadFile(e.file)
	if err != nil {
		return "", fmt.Errorf("cannot read what was edited: %w", err)
	}
	return string(b), nil
}

// lastEditor is that of a person who has chosen none.
const lastEditor = "vi"

// editor is the person's, a program and its arguments.
func editor() []string {
	if words := chosenEditor(); len(words) > 0 {
		return words
	}
	return []string{lastEditor}
}

func chosenEditor() []string {
	for _, name := range []string{"VISUAL", "EDITOR"} {
		if words := strings.Fields(os.Getenv(name)); len(words) > 0 {
			return words
		}
	}
	return nil
}

// forget removes the file.
func (e *edit) forget() {
	if e.file != "" {
		_ = os.Remove(e.file) // it is in the way of nothing
	}
}
