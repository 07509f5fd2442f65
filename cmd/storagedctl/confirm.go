package main

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"storaged/cmd/internal/cmdline"
	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/term"
)

// ruin is what a verb destroys.
type ruin struct {
	what string // for the refusal: "deletes images/a"
	word string // to be typed, and the value of --yes; "" asks for yes or no
	// list says what goes as things are, one line each. It asks the daemon, and fails if
	// that is not there which was named.
	list func(context.Context) ([]string, error)
}

func yesFlag() cli.Flag {
	return &cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "do not ask; needed where there is no terminal"}
}

// confirm asks before something is destroyed: on a terminal; elsewhere --yes
// is needed. A dry run destroys nothing.
func (s *session) confirm(ctx context.Context, r ruin) error {
	switch {
	case s.cli.Bool("dry-run"):
		return nil
	case s.cli.IsSet("yes"):
		return s.checkYes(r)
	}
	switch lines, err := r.list(ctx); { // nobody is asked to agree to what is not there
	case record.CodeOf(err) == record.NotFound && (s.cli.Bool("missing-ok") || s.cli.IsSet("idempotency-key")): // by that the daemon may know that it is done
		return nil
	case err != nil:
		return err
	case !s.interactive():
		return s.unconfirmed(r)
	default:
		return s.question(r, lines)
	}
}

// question lists what goes, and asks, also where that is nothing yet: of a pool or of a
// pattern there may be something until it is done.
func (s *session) question(r ruin, lines []string) error {
	if len(lines) == 0 {
		lines = []string{"there is nothing of that now"}
	}
	out := cmdline.Output(s.errs)
	_, _ = fmt.Fprintf(out.W, "This %s:\n", term.Escape(r.what))
	for _, l := range lines {
		_, _ = fmt.Fprintf(out.W, "  %s\n", term.Escape(l))
	}
	agreed, err := s.agreed(r, out)
	if err == nil && !agreed {
		err = record.Errorf(record.CanceledCode, "not confirmed; nothing was touched")
	}
	return err
}

func (s *session) agreed(r ruin, out term.Output) (bool, error) {
	if r.word == "" {
		return term.Confirm(s.in, out.W, "Go on?")
	}
	answer, err := term.Ask(s.in, out.W, fmt.Sprintf("Type %s to go on:", term.Escape(r.word)))
	return answer == r.word, err
}

// checkYes holds --yes=WORD against the word asked for. It may be a switch, or
// take a word that only some need.
func (s *session) checkYes(r ruin) error {
	given := s.cli.String("yes")
	plain := given == "" || given == "true"
	switch {
	case r.word != "" && given == r.word, r.word == "" && plain:
		return nil
	case r.word == "" || plain:
		return s.unconfirmed(r)
	}
	return cmdline.Usagef("%s %s: --yes=%s does not name it", s.verb(), r.what, given).WithHint("--yes=%s", r.word)
}

func (s *session) unconfirmed(r ruin) error {
	flag := "--yes"
	if r.word != "" {
		flag += "=" + r.word
	}
	return cmdline.Usagef("%s %s and needs %s where there is no terminal to ask; nothing was touched", s.verb(), r.what, flag).
		WithHint("--dry-run shows what would be done")
}

// verb is the words of the command, as in "vol delete".
func (s *session) verb() string { return verbOf(s.cli) }

// interactive reports whether a person can be asked.
func (s *session) interactive() bool { return isTerminal(s.in) && isTerminal(s.errs) }

func isTerminal(stream any) bool {
	f := term.FileOf(stream)
	return f != nil && term.IsTerminal(f)
}

// goners describes volumes that lose their content: bytes, holders, children. The error is
// that of the first if none of them is there.
func (s *session) goners(ctx context.Context, refs []volumeRef) ([]string, error) {
	jobs, err := s.liveJobs(ctx)
	if err != nil {
		return nil, err
	}
	var lines []string
	var none error
	found := 0
	for _, r := range refs {
		v, err := s.client.Volume(ctx, r.pool, r.name)
		if record.CodeOf(err) == record.NotFound {
			lines = append(lines, r.String()+": not found")
			none = cmp.Or(none, err)
			continue
		}
		if err != nil {
			return nil, err
		}
		found++
		lines = append(lines, s.goner(v, jobs))
	}
	if found == 0 {
		return nil, none
	}
	return lines, nil
}

func (s *session) liveJobs(ctx context.Context) ([]record.Job, error) {
	return s.allJobs(ctx, contract.JobFilter{States: []string{"live"}})
}

func (s *session) goner(v record.Volume, jobs []record.Job) string {
	exact := s.cli.Bool("bytes")
	text := fmt.Sprintf("%s/%s: %s, %s of it allocated", v.Pool, v.Name, size(v.Capacity, exact), size(v.Allocation, exact))
	for i := range jobs {
		if holds(&jobs[i], v) {
			text += ", in use by " + jobTitle(&jobs[i])
		}
	}
	if len(v.Snapshots) > 0 {
		text += ", has snapshots " + strings.Join(v.Snapshots, ", ")
	}
	if len(v.Children) > 0 {
		text += ", backs " + strings.Join(v.Children, ", ")
	}
	return text
}

func holds(j *record.Job, v record.Volume) bool {
	for _, o := range j.Objects {
		if o.Pool == v.Pool && o.Volume == v.Name {
			return true
		}
	}
	return false
}

// losing is the ruin of volumes.
func (s *session) losing(what string, refs ...volumeRef) ruin {
	return ruin{what: what, list: func(ctx context.Context) ([]string, error) { return s.goners(ctx, refs) }}
}

func (s *session) overwriting(r volumeRef) ruin {
	return s.losing("overwrites the content of "+r.String(), r)
}
