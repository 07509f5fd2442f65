package cmdline

import (
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"storaged/internal/record"
)

// manCommand is the hidden command that prints the manual page, or the one that
// is named, in roff, for the packages.
const manCommand = "__man"

func (p Program) manual(args []string) int {
	if len(args) == 0 {
		p.man()
		return record.ExitDone
	}
	for _, page := range p.Pages {
		if len(args) == 1 && page.Name == args[0] {
			page.print(p.App.Writer)
			return record.ExitDone
		}
	}
	fmt.Fprintf(p.App.ErrWriter, "%s: no manual %q\n", p.App.Name, strings.Join(args, " "))
	return record.ExitUsage
}

// man prints the manual page: the texts of help, in the order of a manual.
func (p Program) man() {
	var b strings.Builder
	title(&b, p.App.Name, 8, p.App.Usage)
	section(&b, "SYNOPSIS", roff(usageLine(p.App.Name, &cli.Command{Subcommands: p.App.Commands, ArgsUsage: p.App.ArgsUsage})))
	section(&b, "DESCRIPTION", prose(p.App.Description))
	if flags := flagEntries(p.App.Flags); len(flags) > 0 {
		section(&b, "FLAGS", "")
		tagged(&b, flags)
	}
	if len(p.App.Commands) > 0 {
		section(&b, "COMMANDS", "")
		p.manCommands(&b, nil)
	}
	if title, text, ok := strings.Cut(p.Tail, ":\n"); ok {
		section(&b, strings.ToUpper(title), prose(text))
	}
	section(&b, "EXIT STATUS", "")
	for _, e := range p.exits() {
		tagged(&b, []entry{{fmt.Sprint(e.Code), e.Text}})
	}
	p.manReferences(&b)
	_, _ = io.WriteString(p.App.Writer, b.String())
}

// Page is a manual beside that of a program.
type Page struct {
	Name     string
	Section  int
	Usage    string // in a line
	Synopsis string
	Chapters []Chapter
	SeeAlso  []string
}

// Chapter is a part of a page: a text as those of help are, and below that entries, each with
// what it says in paragraphs.
type Chapter struct {
	Title   string
	Part    bool // of the chapter before
	Text    string
	Entries []Entry
}

// Entry is something of which a manual says what it does.
type Entry struct {
	Typed string
	Does  []string
}

// print writes it in roff.
func (p Page) print(out io.Writer) {
	var b strings.Builder
	title(&b, p.Name, p.Section, p.Usage)
	section(&b, "SYNOPSIS", roff(p.Synopsis))
	for _, c := range p.Chapters {
		if c.Part {
			fmt.Fprintf(&b, ".SS %s\n%s\n", roff(c.Title), prose(c.Text))
		} else {
			section(&b, c.Title, prose(c.Text))
		}
		for _, e := range c.Entries {
			fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", roff(e.Typed), paragraphs(e.Does))
		}
	}
	section(&b, "SEE ALSO", roff(strings.Join(p.SeeAlso, ",\n")))
	_, _ = io.WriteString(out, b.String())
}

// paragraphs are lines of which each begins anew.
func paragraphs(all []string) string {
	var out []string
	for _, text := range all {
		out = append(out, roff(text))
	}
	return strings.Join(out, "\n.br\n")
}

// title writes what a manual begins with.
func title(b *strings.Builder, name string, chapter int, usage string) {
	fmt.Fprintf(b, ".TH %s %d \"\" \"storaged\"\n", strings.ToUpper(name), chapter)
	b.WriteString(".ad l\n.nh\n") // nobody could copy a command that is stretched, or broken within a word
	section(b, "NAME", roff(name)+" \\- "+roff(usage))
}

// manReferences writes what manuals end with, as far as there is any.
func (p Program) manReferences(b *strings.Builder) {
	if settings := environment(p.App.Flags); len(settings) > 0 {
		section(b, "ENVIRONMENT", "")
		tagged(b, settings)
	}
	if len(p.Files) > 0 {
		section(b, "FILES", "")
	}
	for _, f := range p.Files {
		tagged(b, []entry{{f.Path, f.Holds}})
	}
	if len(p.SeeAlso) > 0 {
		section(b, "SEE ALSO", roff(strings.Join(p.SeeAlso, ",\n")))
	}
}

// environment lists the variables that stand for flags.
func environment(flags []cli.Flag) (out []entry) {
	for _, f := range flags {
		d, ok := f.(cli.DocGenerationFlag)
		if !ok {
			continue
		}
		for _, variable := range d.GetEnvVars() {
			out = append(out, entry{variable, "as " + flagTyped(f)})
		}
	}
	return out
}

// manCommands writes a subsection for each command that does something.
func (p Program) manCommands(b *strings.Builder, path []*cli.Command) {
	for _, c := range p.under(path) {
		if c.Hidden {
			continue
		}
		below := append(path[:len(path):len(path)], c)
		if c.Action != nil {
			fmt.Fprintf(b, ".SS %s\n%s.\n", roff(usageLine(p.line(below), &cli.Command{ArgsUsage: c.ArgsUsage, Flags: c.Flags})), roff(capital(c.Usage)))
			if c.Description != "" {
				fmt.Fprintf(b, ".PP\n%s\n", prose(c.Description))
			}
			tagged(b, flagEntries(c.Flags))
		}
		p.manCommands(b, below)
	}
}

func section(b *strings.Builder, title, text string) {
	fmt.Fprintf(b, ".SH %s\n", title)
	if text != "" {
		b.WriteString(text + "\n")
	}
}

func tagged(b *strings.Builder, entries []entry) {
	for _, e := range entries {
		fmt.Fprintf(b, ".TP\n.B %s\n%s\n", roff(e.typed), roff(e.does))
	}
}

// prose writes a text of help: its paragraphs are filled to the width of whoever reads. A line
// that is set in is one by itself, and what is apart in it (a key, and what that does) two columns.
func prose(text string) string {
	var out []string
	inset := false
	for l := range strings.Lines(strings.TrimRight(text, "\n")) {
		l = strings.TrimRight(l, "\n")
		was := inset
		if inset = strings.HasPrefix(l, " "); inset && !was {
			out = append(out, ".PD 0")
		} else if was && !inset {
			out = append(out, ".PD", ".PP")
		}
		typed, does, columns := strings.Cut(strings.TrimSpace(l), "  ")
		switch {
		case inset && columns:
			out = append(out, ".TP 24", roff(typed), roff(strings.TrimSpace(does)))
		case inset:
			out = append(out, `.IP "" 4`, roff(typed))
		case l != "":
			out = append(out, roff(l))
		case !was:
			out = append(out, ".PP")
		}
	}
	if inset {
		out = append(out, ".PD")
	}
	return strings.Join(out, "\n")
}

// roff writes text so that nothing in it is a request.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "…", `...`).Replace(text)
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") || strings.HasPrefix(l, "'") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}

func capital(s string) string {
	if s == "" {
		return ""
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
