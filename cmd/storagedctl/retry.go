package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/urfave/cli/v2"

	"storaged/internal/record"
	"storaged/internal/service/contract"
)

func (t *tool) jobRetryCommand() *cli.Command {
	return &cli.Command{
		Name: "retry", Usage: "run an ended job again, as a new job", ArgsUsage: "JOB",
		Description: "The new job works on the same objects; it is refused if another object has got one of their names since.\n" +
			"It asks the same question as the command that started the first job.\n\n" +
			"Examples:\n  storagedctl job retry 412\n  storagedctl job retry 412 --limit none\n  storagedctl job retry 413 --yes=images",
		Flags: retryFlags(), Action: t.changing(jobRetry),
	}
}

// retryFlags leave out what a retried job has from the first one.
func retryFlags() []cli.Flag {
	flags := slices.DeleteFunc(jobFlags(), func(f cli.Flag) bool {
		return slices.Contains([]string{"limit", "priority", "label", "on-failure"}, f.Names()[0])
	})
	return append(flags,
		&cli.StringFlag{Name: "limit", Category: everyJob, Usage: "move at most so many bytes per second (default: the limit of the first job): `RATE|none`"},
		&cli.StringFlag{
			Name: "yes", Aliases: []string{"y"}, Usage: "do not ask; of a job that deletes a pool, repeat the pool's name: `[=POOL]`",
		})
}

func jobRetry(ctx context.Context, s *session) error {
	id := s.arg(0)
	if !s.cli.Bool("dry-run") {
		if err := s.confirmRetry(ctx, id); err != nil {
			return err
		}
	}
	if err := s.sayLimit(ctx, id); err != nil {
		return err
	}
	r, err := s.retryRequest()
	if err != nil {
		return err
	}
	return s.run(ctx, start{object: id, ask: func(ctx context.Context, sub contract.Submit) (contract.Started, error) {
		return s.client.RetryJob(ctx, sub, id, r)
	}})
}

func (s *session) retryRequest() (r contract.JobRetry, err error) {
	if s.cli.IsSet("limit") {
		r.Limit, err = limitOf(s.cli.String("limit"))
	}
	return r, err
}

// sayLimit says that the new job has the limit of the first, unless another is
// given.
func (s *session) sayLimit(ctx context.Context, id string) error {
	if s.cli.IsSet("limit") {
		return nil
	}
	first, err := s.client.Job(ctx, id)
	if err == nil && first.Limit != nil {
		s.note(fmt.Sprintf("storagedctl: at most %s, the limit of job %d; --limit gives another, or none", limit(first.Limit), first.Number))
	}
	return err
}

// confirmRetry asks before work is done again that destroys. A retry that is refused
// because it was asked for already does nothing again: the daemon gives its job.
func (s *session) confirmRetry(ctx context.Context, id string) error {
	started, err := s.client.RetryJob(ctx, contract.Submit{DryRun: true}, id, contract.JobRetry{})
	if err != nil {
		if known, wrong := s.retriedUnderKey(ctx, id); known || wrong != nil {
			return wrong
		}
		return err
	}
	if started.Plan == nil || !started.Plan.Destroys {
		return nil
	}
	return s.confirm(ctx, s.ruinOf(*started.Plan))
}

// retriedUnderKey reports whether there is a retry of a job under the key that was given.
func (s *session) retriedUnderKey(ctx context.Context, id string) (bool, error) {
	key := s.cli.String("idempotency-key")
	if key == "" {
		return false, nil
	}
	first, err := s.client.Job(ctx, id)
	if err != nil {
		return false, err
	}
	retries, err := s.allJobs(ctx, contract.JobFilter{Kinds: []string{string(first.Kind)}, IdempotencyKey: key})
	return slices.ContainsFunc(retries, func(j record.Job) bool { return j.RetryOf != nil && *j.RetryOf == first.Number }), err
}

// ruinOf says what a planned job destroys: that is its first object.
func (s *session) ruinOf(p contract.Plan) ruin {
	of := p.Objects[0]
	volume := volumeRef{pool: of.Pool, name: of.Volume}
	switch p.Kind {
	case record.VolumeDelete:
		return s.losing("deletes "+volume.String(), volume)
	case record.SnapshotDelete:
		return s.deletingSnapshot(of)
	case record.VolumeResize:
		return s.losing("cuts off the end of "+volume.String(), volume)
	case record.VolumeCheck:
		return s.repairing(volume)
	case record.PoolDelete:
		return s.deletingPool(of.Pool)
	case record.PoolBuild:
		return s.overwritingPool(of.Pool)
	case record.PoolEvacuate:
		return ruin{what: fmt.Sprintf("moves volumes of pool %s to %s", of.Pool, p.Objects[1].Pool), list: func(ctx context.Context) ([]string, error) {
			return s.evacuated(ctx, p)
		}}
	}
	return s.overwriting(volume)
}

// evacuated lists the volumes that are to leave their pool: their names are held
// in the other.
func (s *session) evacuated(ctx context.Context, p contract.Plan) ([]string, error) {
	volumes, err := s.client.PoolVolumes(ctx, p.Objects[0].Pool)
	if err != nil {
		return nil, err
	}
	return s.content(ctx, slices.DeleteFunc(volumes, func(v record.Volume) bool {
		return !slices.ContainsFunc(p.Objects[1:], func(o record.Object) bool { return o.Volume == v.Name })
	}))
}
