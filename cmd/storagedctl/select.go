package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/urfave/cli/v2"

	"storaged/cmd/internal/cmdline"
	"storaged/internal/record"
	"storaged/internal/service/contract"
)

// selectFlags choose jobs by what they are.
func selectFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "state", Usage: "in STATE, or live or ended; this flag and the next ones may be repeated: `STATE`"},
		&cli.StringSliceFlag{Name: "kind", Usage: "of a kind, like volume.clone: `KIND`"},
		&cli.StringSliceFlag{Name: "pool", Usage: "on `POOL`"},
		&cli.StringSliceFlag{Name: "volume", Usage: "on `VOL|NAME`"},
		&cli.StringSliceFlag{Name: "owner", Usage: "of `USER`"},
		&cli.StringSliceFlag{Name: "label", Usage: "with `KEY=VALUE`"},
		&cli.StringFlag{Name: "since", Usage: "created at or after `WHEN`"},
		&cli.StringFlag{Name: "until", Usage: "created before `WHEN`"},
	}
}

// selecting adds the flags to those of a verb that takes jobs by number too.
func selecting(flags ...cli.Flag) []cli.Flag { return append(flags, selectFlags()...) }

// destroying adds what a verb needs that destroys what was selected.
func destroying(flags ...cli.Flag) []cli.Flag {
	return append(flags, yesFlag(), &cli.BoolFlag{Name: "dry-run", Usage: "say which jobs, and do nothing"})
}

// maxSelected is how many selected jobs a command asks about and changes one by
// one. More are changed by one request, which tells how many they were.
const maxSelected = 1000

// chosenJobs is the jobs that a verb is for: those of ids, or, where that is more
// than maxSelected, all of a selection.
type chosenJobs struct {
	ids  []string
	many *contract.Selection
}

// selects reports whether jobs are chosen by flags.
func (s *session) selects() bool {
	return slices.ContainsFunc(selectFlags(), func(f cli.Flag) bool { return s.cli.IsSet(f.Names()[0]) })
}

// chosen gives the jobs that a verb is for: ids as they are named, or the
// numbers of those that the flags select, without --state those in state.
func (s *session) chosen(ctx context.Context, ids []string, state string) (chosenJobs, error) {
	switch {
	case s.selects() && len(ids) > 0:
		return chosenJobs{}, cmdline.Usagef("name jobs or select them by flags, not both")
	case !s.selects() && len(ids) == 0:
		return chosenJobs{}, cmdline.Usagef("%q needs JOB, or flags that select jobs", "storagedctl "+s.verb()).
			WithHint("usage: storagedctl %s %s", s.verb(), s.cli.Command.ArgsUsage)
	case !s.selects():
		return chosenJobs{ids: s.jobs(ctx, ids)}, nil
	}
	f, err := s.jobFilter(ctx, state)
	if err != nil {
		return chosenJobs{}, err
	}
	jobs, err := s.someJobs(ctx, f, maxSelected+1)
	if err != nil {
		return chosenJobs{}, err
	}
	if len(jobs) > maxSelected {
		return chosenJobs{many: selectionOf(f, jobs[0])}, nil
	}
	if len(jobs) == 0 {
		s.note("no " + s.stateWanted(state) + "job matches")
	}
	c := chosenJobs{ids: []string{}}
	for _, j := range jobs {
		c.ids = append(c.ids, fmt.Sprint(j.Number))
	}
	return c, nil
}

// selectionOf is what a filter selects, without jobs that came after the newest
// that was seen.
func selectionOf(f contract.JobFilter, newest record.Job) *contract.Selection {
	if after := newest.Created.Add(1); f.Until.IsZero() || f.Until.After(after) {
		f.Until = after
	}
	return &contract.Selection{JobFilter: f}
}

// few is chosen for a verb that attends to every job.
func (s *session) few(ctx context.Context, ids []string, state string) ([]string, error) {
	c, err := s.chosen(ctx, ids, state)
	if c.many != nil {
		return nil, cmdline.Usagef("more than %d jobs are selected, which is too many for %s", maxSelected, s.verb()).
			WithHint("select fewer, with --until for example")
	}
	return c.ids, err
}

// stateWanted says which jobs a verb selects from where --state does not.
func (s *session) stateWanted(state string) string {
	if state == "" || s.cli.IsSet("state") {
		return ""
	}
	return state + " "
}

// doomed is chosen for a verb that destroys, which asks about jobs that are not
// named. Nothing is given where it only was to say them.
func (s *session) doomed(ctx context.Context, what, state string, all ofMany) (chosenJobs, error) {
	c, err := s.chosen(ctx, s.args(), state)
	if err != nil || len(c.ids) == 0 && c.many == nil {
		return chosenJobs{}, err
	}
	count := len(c.ids)
	list := func(ctx context.Context) ([]string, error) {
		outcomes, err := s.named(ctx, c.ids)
		return titles(outcomes), err
	}
	if c.many != nil {
		if count, err = all.count(ctx, *c.many); err != nil {
			return chosenJobs{}, err
		}
		list = func(ctx context.Context) ([]string, error) { return s.firstTitles(ctx, c.many.JobFilter, count) }
	}
	if s.cli.Bool("dry-run") {
		return chosenJobs{}, s.wouldDo(ctx, what, c, list)
	}
	if !s.selects() {
		return c, nil
	}
	return c, s.confirm(ctx, ruin{what: fmt.Sprintf("%ss %s", what, plural(count, "job")), list: list})
}

// wouldDo says what would be done.
func (s *session) wouldDo(ctx context.Context, what string, c chosenJobs, list func(context.Context) ([]string, error)) error {
	if c.many != nil {
		lines, err := list(ctx)
		for _, l := range lines {
			s.note("would " + what + " " + l)
		}
		return err
	}
	outcomes, err := s.named(ctx, c.ids)
	for _, t := range titles(outcomes) {
		s.note("would " + what + " " + t)
	}
	return errors.Join(err, s.verdict(outcomes))
}

// firstTitles says which the newest of many jobs are, and how many more there are.
func (s *session) firstTitles(ctx context.Context, f contract.JobFilter, count int) ([]string, error) {
	l, err := s.client.Jobs(ctx, f, contract.Page{Limit: contentShown})
	var lines []string
	for i := range l.Items {
		lines = append(lines, jobTitle(&l.Items[i])+", "+stateWord(l.Items[i]))
	}
	if rest := count - len(lines); rest > 0 {
		lines = append(lines, fmt.Sprintf("%d more jobs", rest))
	}
	return lines, err
}

// ofMany is how all jobs of a selection are changed.
type ofMany func(context.Context, contract.Selection) (contract.Bulk, error)

// count gives how many jobs there are to change.
func (m ofMany) count(ctx context.Context, sel contract.Selection) (int, error) {
	sel.DryRun = true
	b, err := m(ctx, sel)
	return b.Selected, err
}

// bulk changes all jobs of a selection and says how many took it.
func (s *session) bulk(ctx context.Context, sel contract.Selection, all ofMany, done string) error {
	b, err := all(ctx, sel)
	if err != nil {
		return err
	}
	s.note(plural(b.Done, "job") + ": " + done)
	for _, r := range b.Refusals {
		cmdline.Report(s.errs, "storagedctl", s.format, r.Error)
	}
	switch s.format {
	case "json":
		err = printDocument(s.out, b)
	case "jsonl":
		err = printJSON(s.out, b)
	}
	if err == nil && b.Refused > 0 {
		err = record.Errorf(record.Partial, "%d of %d failed", b.Refused, b.Selected)
	}
	return err
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// titles says which jobs there are among the outcomes, and how they are.
func titles(outcomes []outcome) (lines []string) {
	for _, o := range outcomes {
		if o.err == nil {
			lines = append(lines, jobTitle(o.job)+", "+stateWord(*o.job))
		}
	}
	return lines
}

// selected gives the jobs that the flags select, newest first.
func (s *session) selected(ctx context.Context, state string) ([]record.Job, error) {
	f, err := s.jobFilter(ctx, state)
	if err != nil {
		return nil, err
	}
	return s.allJobs(ctx, f)
}
