// Package cmdline makes a program of a tree of urfave/cli commands, with the
// manners of ours: flags on either side of arguments,
// "did you mean", errors said once with a hint, and one table of exit codes.
//
// The texts of the tree are its grammar. A flag's placeholder (in backquotes
// in its Usage) and a command's ArgsUsage say what is accepted: alternatives
// stand between bars, those in lower case are literal, those in upper case
// are words of the program's vocabulary; [X] may be left out and X… repeats.
// A placeholder "[=X]" makes the value of a flag optional.
package cmdline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"storaged/internal/record"
	"storaged/internal/term"
)

// Program is a tree of commands and the words its grammar uses.
type Program struct {
	App   *cli.App
	Words map[string]Word // beside those of this package: SIZE, RATE, TIME …
	// Synonyms are words of other programs, each after the name of the command that
	// it is looked for under, with what does that here.
	Synonyms map[string]string
	// Aliases are words of other programs that are taken for commands, each after the
	// words of the commands that it stands under.
	Aliases map[string]Alias
	// Tail is printed at the end of the program's own help, above the exit codes:
	// a line with a title, and what stands under it.
	Tail string
	// Alone says that who asks for the help of a command has it in mind to run just
	// that: Tail and the exit codes end that help too.
	Alone bool
	// Exits are the exit codes that the program has; nil is all.
	Exits []int
	// Files and SeeAlso are for the manual page alone.
	Files   []File
	SeeAlso []string
	Pages   []Page // manuals of its own beside that
}

// File is what a program reads or keeps at a path.
type File struct{ Path, Holds string }

// Main runs the program with args, the first of which is its name, and gives
// the exit code. It never exits the process.
func (p Program) Main(args []string) int {
	p.tame()
	if len(args) > 1 && args[1] == completeCommand {
		p.complete(args[2:])
		return record.ExitDone
	}
	if len(args) > 1 && args[1] == manCommand {
		return p.manual(args[2:])
	}
	inv, err := p.run(args)
	if err == nil {
		return record.ExitDone
	}
	if !errors.Is(err, ErrInterrupted) {
		p.report(inv, err)
	}
	return ExitCode(err)
}

func (p Program) run(args []string) (*invocation, error) {
	inv, err := p.parse(args[min(1, len(args)):])
	if err != nil {
		return inv, err
	}
	switch {
	case inv.help:
		return inv, p.help(p.App.Writer, inv.path)
	case inv.version:
		_, err := fmt.Fprintf(p.App.Writer, "%s %s\n", p.App.Name, p.App.Version)
		return inv, err
	}
	if err := p.check(inv); err != nil {
		return inv, err
	}
	p.sayName(inv)
	return inv, p.App.RunContext(context.Background(), inv.argv(p.App.Name))
}

// tame switches off what cli/v2 does by itself: help, version and exits.
func (p Program) tame() {
	a := p.App
	if a.Writer == nil {
		a.Writer = os.Stdout
	}
	if a.ErrWriter == nil {
		a.ErrWriter = os.Stderr
	}
	a.HideHelp, a.HideVersion, a.DisableSliceFlagSeparator = true, true, true
	a.ExitErrHandler = func(*cli.Context, error) {}
	a.OnUsageError = usageError
	tameCommands(a.Commands)
}

func tameCommands(commands []*cli.Command) {
	for _, c := range commands {
		c.HideHelp, c.OnUsageError = true, usageError
		tameCommands(c.Subcommands)
	}
}

// usageError takes what flag values of a type were refused by cli.
func usageError(_ *cli.Context, err error, _ bool) error { return Usagef("%s", err) }

// Usagef makes an error of bad usage (exit code 2).
func Usagef(format string, args ...any) *record.Error {
	return record.Errorf(record.Invalid, format, args...)
}

// ErrInterrupted ends a command that only looks, and that a person or a signal ended:
// it is no error to be reported.
var ErrInterrupted = errors.New("left")

// ExitCode maps an error to the exit code. A canceled context is a person who
// pressed Ctrl-C.
func ExitCode(err error) int {
	var e *record.Error
	if errors.Is(err, ErrInterrupted) || !errors.As(err, &e) && errors.Is(err, context.Canceled) {
		return record.ExitCanceled
	}
	return record.ExitCode(err)
}

// report says an error once: for people, or with -o json as an object.
func (p Program) report(inv *invocation, err error) {
	Report(p.App.ErrWriter, p.App.Name, inv.value("output"), err)
}

// Report says an error in the form of a program's output: as an object with
// json and jsonl, and else for people, "PROG: error: …" and "PROG: hint: …".
func Report(w io.Writer, program, form string, err error) {
	out := Output(w)
	if form == "json" || form == "jsonl" {
		_, _ = fmt.Fprintf(out.W, "%s\n", problem(err))
		return
	}
	text := term.Escape(err.Error())
	_, _ = fmt.Fprintf(out.W, "%s: %s %s\n", program, out.Paint(term.Red, "error:"), text)
	var e *record.Error
	if errors.As(err, &e) && e.Hint != nil {
		_, _ = fmt.Fprintf(out.W, "%s: hint: %s\n", program, term.Escape(Hint(e.Hint)))
	}
}

// Warn says what is wrong and keeps nobody from anything, in a program's name.
func Warn(w io.Writer, program string, err error) {
	_, _ = fmt.Fprintf(Output(w).W, "%s: warning: %s\n", program, term.Escape(err.Error()))
}

// Hint writes a hint for people at a shell.
func Hint(h record.Hint) string { return h.Words(record.Call.CommandLine) }

// Output looks at a writer of an App: a terminal or not.
func Output(w io.Writer) term.Output {
	switch w := w.(type) {
	case *os.File:
		return term.NewOutput(w)
	case *term.Writer:
		return w.Output()
	}
	return term.Output{W: w, Width: func() int { return 80 }, Now: time.Now}
}

// oneOf lists words for a sentence: "a, b or c".
func oneOf(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}
