package main

import (
	"context"

	"github.com/urfave/cli/v2"

	"storaged/cmd/internal/cmdline"
	"storaged/internal/operation"
	"storaged/internal/record"
)

func (t *tool) buildVerb() *cli.Command {
	return &cli.Command{
		Name: "build", Usage: "make a pool's storage", ArgsUsage: "POOL",
		Flags: jobFlags(
			&cli.BoolFlag{Name: "overwrite", Usage: "also where there is something already; a directory stays as it is"},
			&cli.BoolFlag{Name: "no-overwrite", Usage: "refuse if there is something already that is no such pool (the default)"}, yesFlag()),
		Action: t.changing(poolBuild),
	}
}

func poolBuild(ctx context.Context, s *session) error {
	pool, overwrite := s.arg(0), s.cli.Bool("overwrite")
	if overwrite && s.cli.Bool("no-overwrite") {
		return cmdline.Usagef("--overwrite and --no-overwrite exclude each other")
	}
	if overwrite {
		if err := s.confirm(ctx, s.overwritingPool(pool)); err != nil {
			return err
		}
	}
	r := operation.PoolBuildRequest{Overwrite: overwrite, JobOptions: s.jobOptions()}
	return s.run(ctx, s.job(record.Object{Pool: pool}, &r))
}

func (s *session) overwritingPool(pool string) ruin {
	return ruin{
		what: "overwrites what the storage of pool " + pool + " holds",
		list: func(ctx context.Context) ([]string, error) { return s.poolStorage(ctx, pool) },
	}
}

// poolStorage says where a pool's storage is.
func (s *session) poolStorage(ctx context.Context, pool string) ([]string, error) {
	p, err := s.client.Pool(ctx, pool)
	if err != nil {
		return nil, err
	}
	lines := append([]string{}, p.Source.Devices...)
	if p.Target.Path != "" {
		lines = append(lines, p.Target.Path)
	}
	return lines, nil
}
