package cmdline

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"storaged/internal/record"
	"storaged/internal/term"
)

// ExitMeaning is a line of the table of exit codes.
type ExitMeaning struct {
	Code int
	Text string
}

// exits are the lines of the table that are the program's.
func (p Program) exits() []ExitMeaning {
	return slices.DeleteFunc(ExitCodes(), func(e ExitMeaning) bool { return p.Exits != nil && !slices.Contains(p.Exits, e.Code) })
}

// ExitCodes is the one table of exit codes, for help and man pages.
func ExitCodes() []ExitMeaning {
	return []ExitMeaning{
		{record.ExitDone, "done"},
		{record.ExitFailed, "failed"},
		{record.ExitUsage, "usage or bad input"},
		{record.ExitNotFound, "not found"},
		{record.ExitBusy, "busy, conflict, too late"},
		{record.ExitExists, "exists"},
		{record.ExitDenied, "not permitted"},
		{record.ExitNoSpace, "no space"},
		{record.ExitUnsupported, "not supported"},
		{record.ExitUnreachable, "daemon not reachable or not ready"},
		{record.ExitMismatch, "verification found a difference"},
		{record.ExitPartial, "some of several failed"},
		{record.ExitTimedOut, "timed out"},
		{record.ExitCanceled, "canceled"},
	}
}

// entry is a line of a list in help: what is typed, and what it does.
type entry struct{ typed, does string }

// help prints the help of the program or of the command at path.
func (p Program) help(w io.Writer, path []*cli.Command) error {
	var b strings.Builder
	if len(path) == 0 {
		p.helpProgram(&b)
	} else {
		p.helpCommand(&b, path)
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("cannot write the help: %w", err)
	}
	return nil
}

func (p Program) helpProgram(b *strings.Builder) {
	root := &cli.Command{Subcommands: p.App.Commands, ArgsUsage: p.App.ArgsUsage}
	fmt.Fprintf(b, "%s: %s\n\nUsage: %s\n", p.App.Name, p.App.Usage, usageLine(p.App.Name, root))
	paragraph(b, p.App.Description)
	writeEntries(b, "Commands", commandEntries(p.App.Commands))
	title := "Flags, for every command, before or after its arguments"
	if len(p.App.Commands) == 0 {
		title = "Flags"
	}
	writeEntries(b, title, flagEntries(p.App.Flags))
	p.helpEnd(b)
	if len(p.App.Commands) > 0 {
		fmt.Fprintf(b, "\n%s COMMAND --help says more about a command.\n", p.App.Name)
	}
}

func (p Program) helpCommand(b *strings.Builder, path []*cli.Command) {
	c, line := path[len(path)-1], p.line(path)
	fmt.Fprintf(b, "%s: %s\n\nUsage: %s\n", line, c.Usage, usageLine(line, c))
	if len(c.Aliases) > 0 {
		fmt.Fprintf(b, "\nAlso: %s\n", strings.Join(c.Aliases, ", "))
	}
	paragraph(b, c.Description)
	writeEntries(b, "Commands", commandEntries(c.Subcommands))
	for level := len(path); level > 0; level-- {
		writeFlags(b, path[level-1].Flags)
	}
	writeEntries(b, "For every command", flagEntries(p.App.Flags))
	if p.Alone {
		p.helpEnd(b)
		return
	}
	fmt.Fprintf(b, "\n%s --help says more, and lists the exit codes.\n", p.App.Name)
}

// helpEnd is what holds for all commands.
func (p Program) helpEnd(b *strings.Builder) {
	paragraph(b, p.Tail)
	b.WriteString("\nExit codes:\n")
	for _, e := range p.exits() {
		fmt.Fprintf(b, "  %3d  %s\n", e.Code, e.Text)
	}
}

// writeFlags lists the flags of a command: its own, then those of each
// category under its name.
func writeFlags(b *strings.Builder, flags []cli.Flag) {
	var names []string
	groups := map[string][]cli.Flag{}
	for _, f := range flags {
		name := "Flags"
		if c, ok := f.(cli.CategorizableFlag); ok && c.GetCategory() != "" {
			name = c.GetCategory()
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
		groups[name] = append(groups[name], f)
	}
	for _, name := range names {
		writeEntries(b, name, flagEntries(groups[name]))
	}
}

func usageLine(line string, c *cli.Command) string {
	switch {
	case len(c.Subcommands) > 0:
		return line + " COMMAND… [flags]"
	}
	for _, part := range append([]string{c.ArgsUsage}, needed(c.Flags)...) {
		if part != "" {
			line += " " + part
		}
	}
	return line + " [flags]"
}

// needed are the flags without which a command does nothing, as they are typed.
func needed(flags []cli.Flag) (typed []string) {
	for _, f := range flags {
		if isNeeded(f) {
			typed = append(typed, flagTyped(f))
		}
	}
	return typed
}

func isNeeded(f cli.Flag) bool {
	r, ok := f.(cli.RequiredFlag)
	return ok && r.IsRequired()
}

func paragraph(b *strings.Builder, text string) {
	if text != "" {
		b.WriteString("\n" + strings.TrimSpace(text) + "\n")
	}
}

func commandEntries(commands []*cli.Command) []entry {
	var out []entry
	for _, c := range commands {
		if !c.Hidden {
			out = append(out, entry{strings.TrimSpace(c.Name + " " + c.ArgsUsage), c.Usage})
		}
	}
	return out
}

func flagEntries(flags []cli.Flag) []entry {
	var out []entry
	for _, f := range flags {
		if !hidden(f) {
			out = append(out, entry{flagTyped(f), explanation(f)})
		}
	}
	return out
}

// explanation is what a flag does. A placeholder behind a colon is not said
// again.
func explanation(f cli.Flag) string {
	d, ok := f.(cli.DocGenerationFlag)
	if !ok {
		return ""
	}
	text := strings.TrimSuffix(d.GetUsage(), ": `"+placeholder(f)+"`")
	return strings.ReplaceAll(text, "`", "")
}

// flagTyped gives a flag as it is typed: "-o, --output table|json".
func flagTyped(f cli.Flag) string {
	var short, long []string
	for _, n := range f.Names() {
		if len(n) == 1 {
			short = append(short, "-"+n)
		} else {
			long = append(long, "--"+n)
		}
	}
	typed := strings.Join(append(short, long...), ", ")
	switch {
	case !takesValue(f):
		return typed
	case optionalValue(f):
		return typed + placeholder(f)
	}
	return typed + " " + placeholder(f)
}

// helpColumn is where explanations begin; what is typed may be longer and
// then has a line of its own. helpWidth is where they end.
const helpColumn, helpWidth = 30, 100

func writeEntries(b *strings.Builder, title string, entries []entry) {
	if len(entries) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%s:\n", title)
	for _, e := range entries {
		does := folded(e.does, helpWidth-helpColumn, strings.Repeat(" ", helpColumn))
		pad := helpColumn - 2 - term.Width(e.typed)
		if pad < 2 {
			fmt.Fprintf(b, "  %s\n%*s%s\n", e.typed, helpColumn, "", does)
		} else {
			fmt.Fprintf(b, "  %s%*s%s\n", e.typed, pad, "", does)
		}
	}
}

// folded breaks text between its words into lines of a width at most; the later
// ones begin with indent.
func folded(text string, width int, indent string) string {
	var b strings.Builder
	at := 0
	for i, word := range strings.Fields(text) {
		n := term.Width(word)
		switch {
		case i == 0:
		case at+1+n > width:
			b.WriteString("\n" + indent)
			at = 0
		default:
			b.WriteByte(' ')
			at++
		}
		b.WriteString(word)
		at += n
	}
	return b.String()
}
