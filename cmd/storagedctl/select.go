package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/urfave/cli/v2"

	"storaged/cmd/internal/cmdline"
	"storaged/internal/record"
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

// maxSelected bounds what one command does to jobs that it does not name.
const maxSelected = 1000

// selects reports whether jobs are chosen by flags.
func (s *session) selects() bool {
	return slices.ContainsFunc(selectFlags(), func(f cli.Flag) bool { return s.cli.IsSet(f.Names()[0]) })
}

// chosen gives the jobs that a verb is for: ids as they are named, or the
// numbers of those that the flags select, without --state those in state.
func (s *session) chosen(ctx context.Context, ids []string, state string) ([]string, error) {
	switch {
	case s.selects() && len(ids) > 0:
		return nil, cmdline.Usagef("name jobs or select them by flags, not both")
	case !s.selects() && len(ids) == 0:
		return nil, cmdline.Usagef("%q needs JOB, or flags that select jobs", "storagedctl "+s.verb()).
			WithHint("storagedctl %s --help", s.verb())
	case !s.selects():
		return ids, nil
	}
	jobs, err := s.selected(ctx, state)
	if err != nil {
		return nil, err
	}
	if len(jobs) > maxSelected {
		return nil, cmdline.Usagef("%d jobs are selected; %s takes %d at most", len(jobs), s.verb(), maxSelected).
			WithHint("select fewer, with --until for example")
	}
	if len(jobs) == 0 {
		s.note("no " + s.stateWanted(state) + "job matches")
	}
	numbers := []string{}
	for _, j := range jobs {
		numbers = append(numbers, fmt.Sprint(j.Number))
	}
	return numbers, nil
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
func (s *session) doomed(ctx context.Context, what, state string) ([]string, error) {
	ids, err := s.chosen(ctx, s.args(), state)
	if err != nil || len(ids) == 0 {
		return nil, err
	}
	if s.cli.Bool("dry-run") {
		outcomes, err := s.named(ctx, ids)
		for _, t := range titles(outcomes) {
			s.note("would " + what + " " + t)
		}
		return nil, errors.Join(err, s.verdict(outcomes))
	}
	if !s.selects() {
		return ids, nil
	}
	return ids, s.confirm(ctx, ruin{
		what: fmt.Sprintf("%ss %s", what, plural(len(ids), "job")),
		list: func(ctx context.Context) ([]string, error) {
			outcomes, err := s.named(ctx, ids)
			return titles(outcomes), err
		},
	})
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
	f, err := s.jobFilter(state)
	if err != nil {
		return nil, err
	}
	wanted, err := s.wantedVolumes(ctx)
	if err != nil {
		return nil, err
	}
	for _, v := range wanted {
		f.Volumes = append(f.Volumes, v.name)
	}
	jobs, err := s.allJobs(ctx, f)
	if len(wanted) > 0 {
		jobs = slices.DeleteFunc(jobs, func(j record.Job) bool { return !onAny(j, wanted) })
	}
	return jobs, err
}
