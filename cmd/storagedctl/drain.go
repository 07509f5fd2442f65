package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"storaged/internal/record"
	"storaged/internal/term"
)

func (t *tool) drainCommand() *cli.Command {
	return &cli.Command{
		Name: "drain", Usage: "take no new jobs, begin none that wait, and wait for those that run",
		Description: "Before maintenance. Ctrl-C and --timeout end the waiting and leave the drain on. It ends with\n" +
			"--off, and with the daemon: one that is started anew takes jobs.\n\n" +
			"Examples:\n  storagedctl drain --timeout 10m\n  storagedctl drain --off",
		Flags: []cli.Flag{
			timeoutFlag(),
			&cli.BoolFlag{Name: "off", Usage: "take new jobs again"},
			&cli.BoolFlag{Name: "dry-run", Usage: "say what would be changed, and do nothing"},
		},
		Action: t.changing(drain),
	}
}

func drain(ctx context.Context, s *session) error {
	on := !s.cli.Bool("off")
	if s.cli.Bool("dry-run") {
		return dryDrain(ctx, s, on)
	}
	d, err := s.client.Drain(ctx, on)
	switch {
	case err != nil:
		return err
	case !on:
		return printDrain(s, d)
	}
	if err := s.awaitRest(ctx, d); err != nil {
		return err
	}
	st, err := s.client.Status(ctx)
	if err != nil {
		return err
	}
	return printDrain(s, st.Drain)
}

// awaitRest waits for the ends of the jobs that run.
func (s *session) awaitRest(ctx context.Context, d record.Drain) error {
	var jobs []record.Job
	for _, n := range d.Running {
		j, err := s.client.Job(ctx, fmt.Sprint(n))
		if err != nil {
			return err
		}
		jobs = append(jobs, j)
	}
	if len(jobs) == 0 {
		return nil
	}
	_, err := s.watch(ctx, jobs, untilAllEnd)
	return err
}

// dryDrain says what there is to wait for.
func dryDrain(ctx context.Context, s *session, on bool) error {
	st, err := s.client.Status(ctx)
	if err != nil {
		return err
	}
	if !on {
		s.note("would take new jobs again")
		return nil
	}
	s.note("would take no new jobs, and wait for " + runningText(st.Drain.Running))
	return nil
}

func printDrain(s *session, d record.Drain) error {
	return printOne(s, shape[record.Drain]{
		columns: []term.Column[record.Drain]{
			{Name: "drain", Cell: onOff},
			{Name: "running", Right: true, Cell: func(d record.Drain) string { return fmt.Sprint(len(d.Running)) }},
		},
		name:   onOff,
		detail: func(_ *session, d record.Drain) []field { return []field{{"Drain", drainText(d)}} },
	}, d)
}

func onOff(d record.Drain) string {
	if d.On {
		return "on"
	}
	return "off"
}

// drainText says how a drain stands.
func drainText(d record.Drain) string {
	text := onOff(d)
	if !d.On {
		return text
	}
	if d.Since != nil && d.By != nil {
		text += fmt.Sprintf(" since %s, by %s", stamp(d.Since), d.By.User)
	}
	return text + "; " + runningText(d.Running) + " left"
}

func runningText(numbers []int64) string {
	switch len(numbers) {
	case 0:
		return "no running job"
	case 1:
		return fmt.Sprintf("running job %d", numbers[0])
	}
	return "running jobs " + strings.Trim(fmt.Sprint(numbers), "[]")
}
