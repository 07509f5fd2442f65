package main

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v2"

	"storaged/internal/operation"
	"storaged/internal/record"
)

func (t *tool) poolDeleteVerb() *cli.Command {
	return &cli.Command{
		Name: "delete", Usage: "destroy a pool's storage", ArgsUsage: "POOL",
		Description: "A pool with volumes is refused without --with-volumes. Those that the catalog has go then, which\n" +
			"--dry-run names; one that came to the pool after it was read last refuses the deletion.\n" +
			"\"pool undefine\" forgets a pool and touches no storage.",
		Flags: jobFlags(
			&cli.BoolFlag{Name: "with-volumes", Usage: "also the volumes in it"},
			&cli.BoolFlag{Name: "missing-ok", Usage: "no failure if there is no such pool"},
			&cli.StringFlag{Name: "yes", Aliases: []string{"y"}, Usage: "do not ask; repeat the pool's name: `POOL`"}),
		Action: t.changing(poolDelete),
	}
}

func poolDelete(ctx context.Context, s *session) error {
	pool := s.arg(0)
	r := operation.PoolDeleteRequest{WithVolumes: s.cli.Bool("with-volumes"), Missing: s.missing(), JobOptions: s.jobOptions()}
	if err := s.confirm(ctx, s.deletingPool(pool)); err != nil {
		return err
	}
	return s.eachPool(ctx, &r)
}

func (s *session) deletingPool(pool string) ruin {
	return ruin{
		what: "destroys the storage of pool " + pool, word: pool,
		list: func(ctx context.Context) ([]string, error) { return s.poolContent(ctx, pool) },
	}
}

// contentShown is how many volumes a question lists; more are counted.
const contentShown = 20

func (s *session) poolContent(ctx context.Context, pool string) ([]string, error) {
	lines, err := s.poolStorage(ctx, pool)
	if err != nil {
		return nil, err
	}
	volumes, err := s.client.PoolVolumes(ctx, pool)
	if err != nil {
		return nil, err
	}
	content, err := s.content(ctx, volumes)
	return append(lines, content...), err
}

// content is a line for each volume, up to contentShown.
func (s *session) content(ctx context.Context, volumes []record.Volume) ([]string, error) {
	jobs, err := s.liveJobs(ctx)
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, v := range volumes[:min(len(volumes), contentShown)] {
		lines = append(lines, s.goner(v, jobs))
	}
	if rest := len(volumes) - contentShown; rest > 0 {
		lines = append(lines, fmt.Sprintf("and %d more volumes", rest))
	}
	return lines, nil
}
