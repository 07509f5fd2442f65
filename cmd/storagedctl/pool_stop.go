package main

import (
	"context"
	"strings"

	"github.com/urfave/cli/v2"

	"storaged/internal/operation"
	"storaged/internal/service/contract"
)

func (t *tool) stopVerb() *cli.Command {
	return &cli.Command{
		Name: "stop", Usage: "take a pool out of use; its volumes and storage stay", ArgsUsage: "POOL…",
		Flags: jobFlags(
			&cli.BoolFlag{Name: "force", Usage: "cancel the jobs that are in the way, do not mind volumes of other pools that stand on its, and take away a mount whose server does not answer"},
			&cli.BoolFlag{Name: "missing-ok", Usage: "no failure if there is no such pool"}, yesFlag()),
		Action: t.changing(poolStop),
	}
}

func poolStop(ctx context.Context, s *session) error {
	r := operation.PoolStopRequest{Force: s.cli.Bool("force"), Missing: s.missing(), JobOptions: s.jobOptions()}
	if r.Force {
		pools := s.pools(ctx)
		err := s.confirm(ctx, ruin{
			what: "cancels the jobs in pool " + strings.Join(pools, ", "),
			list: func(ctx context.Context) ([]string, error) { return s.jobsIn(ctx, pools) },
		})
		if err != nil {
			return err
		}
	}
	return s.eachPool(ctx, &r)
}

// jobsIn lists the jobs that a forced stop cancels.
func (s *session) jobsIn(ctx context.Context, pools []string) ([]string, error) {
	jobs, err := s.allJobs(ctx, contract.JobFilter{States: []string{"live"}, Pools: pools})
	if err != nil {
		return nil, err
	}
	var lines []string
	for i := range jobs {
		lines = append(lines, jobTitle(&jobs[i])+" of "+jobs[i].Owner.User)
	}
	return lines, nil
}
