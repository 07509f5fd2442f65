package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/urfave/cli/v2"

	"storaged/cmd/internal/cmdline"
	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/service/contract"
)

// asking makes a request for one job.
type asking func(context.Context, contract.Submit) (contract.Started, error)

// start is a request for one job. It is made again, with the same key, when
// the connection was lost before its answer.
type start struct {
	object  string // what it is about, as -o name prints it
	ask     asking
	streams bool                               // its content passes through this command, and breaks off with it
	advise  func(context.Context, error) error // says more about a failure; nil: there is no more to say
}

// outcome is how a start ended.
type outcome struct {
	start
	job       *record.Job         // nil without one
	same      *contract.Unchanged // there was nothing to do
	err       error
	announced bool // that it is being canceled

	warned int // of the job's warnings, said already
}

// everyJob is the heading of those flags in help.
const everyJob = "For every job"

// jobFlags are what every verb that starts a job takes.
func jobFlags(more ...cli.Flag) []cli.Flag {
	return append(more,
		&cli.BoolFlag{Name: "detach", Category: everyJob, Usage: "print the job's number and do not wait"},
		&cli.StringFlag{Name: "timeout", Category: everyJob, Usage: "wait at most `TIME`; the job goes on (exit code 124)"},
		&cli.StringFlag{Name: "cancel-after", Category: everyJob, Usage: "cancel the job after `TIME`"},
		&cli.StringFlag{Name: "lock-wait", Category: everyJob, Usage: "wait for what is in use; 0 refuses at once: `TIME|forever`"},
		&cli.BoolFlag{Name: "dry-run", Category: everyJob, Usage: "show what would be done, and do nothing"},
		&cli.StringFlag{Name: "limit", Category: everyJob, Usage: "move at most `RATE`, in bytes per second"},
		&cli.StringFlag{Name: "priority", Category: everyJob, Usage: "its class in the queue: `interactive|normal|background`"},
		&cli.StringSliceFlag{Name: "label", Category: everyJob, Usage: "keep `KEY=VALUE` with the job; may be repeated"},
		&cli.StringFlag{Name: "on-failure", Category: everyJob, Usage: "remove an unfinished target, or keep it (default rollback): `rollback|keep`"},
		&cli.StringFlag{Name: "idempotency-key", Category: everyJob, Usage: "the same `KEY` again gives the same job, no second one"},
	)
}

// jobOptions reads them.
func (s *session) jobOptions() operation.JobOptions {
	return operation.JobOptions{
		Limit:     cmdline.Size(s.cli, "limit"),
		Priority:  record.Priority(s.cli.String("priority")),
		OnFailure: record.OnFailure(s.cli.String("on-failure")),
		Labels:    s.pairs("label"),
	}
}

// pairs reads a flag that was given keys with their values, nil where there is none.
func (s *session) pairs(flag string) map[string]string {
	var all map[string]string
	for _, text := range s.cli.StringSlice(flag) {
		if all == nil {
			all = map[string]string{}
		}
		key, value, err := parsePair(text)
		if err != nil {
			panic("internal error: a pair was not checked: " + err.Error())
		}
		all[key] = value
	}
	return all
}

// submission is how the request of one of several objects is made. Several
// jobs of one command need a key each: it is made of the given one and the
// object, so that the same command again gives the same jobs.
func (s *session) submission(object string, several bool) contract.Submit {
	sub := contract.Submit{DryRun: s.cli.Bool("dry-run"), LockWait: cmdline.Duration(s.cli, "lock-wait")}
	if s.cli.String("lock-wait") == "forever" {
		forever := -time.Second
		sub.LockWait = &forever
	}
	switch sub.Key = s.cli.String("idempotency-key"); {
	case sub.Key == "":
		sub.Key = uuid.Must(uuid.NewV7()).String()
	case several:
		sub.Key = uuid.NewSHA1(uuid.NameSpaceURL, []byte(sub.Key+" "+object)).String()
	}
	return sub
}

// run starts the jobs and does with them what the flags say.
func (s *session) run(ctx context.Context, starts ...start) error {
	switch {
	case s.cli.Bool("dry-run"):
		return s.plan(ctx, starts)
	case s.cli.Bool("detach"):
		return s.detach(ctx, starts)
	}
	outcomes, err := s.attend(ctx, starts)
	var gone *detached
	if errors.As(err, &gone) {
		return s.printDetached(gone.jobs)
	}
	if err != nil {
		return err
	}
	return s.finish(ctx, outcomes)
}

// plan prints what would be done.
func (s *session) plan(ctx context.Context, starts []start) error {
	plans := make([]contract.Plan, 0, len(starts))
	outcomes := make([]outcome, len(starts))
	for i, st := range starts {
		started, err := st.ask(ctx, s.submission(st.object, len(starts) > 1))
		if err == nil && started.Plan == nil && started.Unchanged == nil {
			err = record.Errorf(record.Unsupported, "the daemon has no plan for %s", st.object)
		}
		outcomes[i] = s.settled(ctx, outcome{start: st, err: err})
		switch {
		case err != nil:
		case started.Unchanged != nil:
			s.note(st.object + ": nothing to do")
		default:
			plans = append(plans, *started.Plan)
		}
	}
	if err := showPlans(s, plans, len(starts)); err != nil {
		return err
	}
	return s.verdict(outcomes)
}

// detach starts the jobs and prints their numbers.
func (s *session) detach(ctx context.Context, starts []start) error {
	outcomes := make([]outcome, len(starts))
	for i, st := range starts {
		started, err := st.ask(ctx, s.submission(st.object, len(starts) > 1))
		outcomes[i] = s.settled(ctx, outcome{start: st, job: started.Job, same: started.Unchanged, err: err})
	}
	if err := s.printDetached(outcomes); err != nil {
		return err
	}
	return s.verdict(outcomes)
}

// settled lets an outcome's start say more about its failure.
func (s *session) settled(ctx context.Context, o outcome) outcome {
	if o.err != nil && o.advise != nil {
		o.err = o.advise(ctx, o.err)
	}
	return o
}

// finish prints the results of jobs that have ended, and gives the error of
// the command.
func (s *session) finish(ctx context.Context, outcomes []outcome) error {
	for i, o := range outcomes {
		if o.err == nil && o.job != nil {
			o.err = jobError(o.job)
		}
		o = s.settled(ctx, o)
		outcomes[i] = o
		s.warn(&o)
	}
	if err := s.printOutcomes(outcomes); err != nil {
		return err
	}
	return s.verdict(outcomes)
}

func (s *session) warn(o *outcome) {
	for _, text := range s.news(o) {
		s.note(text)
	}
}

// news are the warnings of the job that were not said yet, of this job or, of what is so
// for all of a command, of another.
func (s *session) news(o *outcome) (texts []string) {
	if o.job == nil {
		return nil
	}
	for ; o.warned < len(o.job.Warnings); o.warned++ {
		text := o.job.Warnings[o.warned]
		if s.said[text] {
			continue
		}
		s.said[text] = true
		texts = append(texts, fmt.Sprintf("storagedctl: warning: job %d: %s", o.job.Number, text))
	}
	return texts
}

// verdict makes one error of several outcomes: the only one, or the common
// one, or that some failed.
func (s *session) verdict(outcomes []outcome) error {
	var errs []error
	for _, o := range outcomes {
		if o.err != nil {
			errs = append(errs, o.err)
		}
	}
	if len(outcomes) == 1 || len(errs) == 0 {
		return errors.Join(errs...)
	}
	for _, err := range errs {
		cmdline.Report(s.errs, "storagedctl", s.format, err)
	}
	e := record.Errorf(record.Partial, "%d of %d failed", len(errs), len(outcomes))
	if len(errs) == len(outcomes) && sameExit(errs) {
		e.Code = record.CodeOf(errs[0])
	}
	return e
}

func sameExit(errs []error) bool {
	for _, err := range errs {
		if cmdline.ExitCode(err) != cmdline.ExitCode(errs[0]) {
			return false
		}
	}
	return true
}

// jobError is the error of a command whose job ended so.
func jobError(j *record.Job) error {
	switch {
	case j.State == record.Succeeded:
		return nil
	case j.State == record.Canceled:
		e := record.Errorf(record.CanceledCode, "%s was canceled%s", jobTitle(j), by(j.CanceledBy))
		if undone := aftermath(j); undone != "" {
			e.Message += ": " + undone
		}
		if resumable(j) {
			e.Hint = resuming(j)
		}
		return e
	case j.Error == nil:
		return record.Errorf(record.FailedCode, "%s failed", jobTitle(j))
	}
	e := *j.Error
	e.Message = jobTitle(j) + " failed: " + e.Message
	switch {
	case e.Hint != nil:
	case e.Code == record.Interrupted && resumable(j):
		e.Hint = resuming(j)
	// With other codes the log holds no more than the error.
	case slices.Contains([]record.Code{record.Internal, record.Killed, record.Inconsistent}, e.Code):
		e.Hint = record.Hintf("%s", record.Do("job.log", j.Number))
		if repeatable(j) {
			e.Hint = record.Hintf("%s says more, and %s does it again", record.Do("job.log", j.Number), record.Do("job.retry", j.Number))
		}
	}
	return &e
}

// resumable reports whether an upload can go on where it broke off: it has changed
// its volume, and was of a content from its start.
func resumable(j *record.Job) bool {
	if j.Kind != record.VolumeUpload || j.Rollback != record.RollbackKept || j.Helper == nil {
		return false
	}
	return !slices.Contains(j.Helper.Argv, "--offset") || slices.Contains(j.Helper.Argv, "--skipped")
}

func resuming(j *record.Job) record.Hint {
	return record.Hintf("%s goes on where it broke off", record.Do("volume.upload", j.Subject(), "FILE").With("resume"))
}

func by(o *record.Owner) string {
	switch {
	case o == nil:
		return ""
	case o.Via == record.ViaSignal:
		return " by " + signaler(*o)
	case o.User != "":
		return " by " + o.User
	}
	return fmt.Sprintf(" by uid %d", o.UID)
}

// repeatable reports whether a job can be retried: it needs no file or stream of its client.
func repeatable(j *record.Job) bool {
	return j.Helper == nil || !slices.ContainsFunc(j.Helper.Argv, func(arg string) bool { return strings.HasPrefix(arg, "fd:") })
}
