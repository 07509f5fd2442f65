package main

import (
	"context"
	"strings"

	"github.com/urfave/cli/v2"

	"storaged/internal/operation"
)

func (t *tool) moveVerb() *cli.Command {
	return &cli.Command{
		Name: "move", Usage: "give a volume another name, in its pool or another", ArgsUsage: "VOL POOL/|POOL/NAME",
		Description: "In POOL/ it keeps its name. To a pool on another file system it is copied, and removed when the\ncopy is complete. A volume that is in use, or that others stand on, is refused.\n\n" +
			"Example: storagedctl vol move images/vm1.raw archive/vm1.raw",
		Flags:  jobFlags(),
		Action: t.changing(volumeMove),
	}
}

func volumeMove(ctx context.Context, s *session) error {
	r, err := s.volume(ctx, s.arg(0))
	if err != nil {
		return err
	}
	to, err := s.destination(ctx, s.arg(1), r)
	if err != nil {
		return err
	}
	req := operation.MoveRequest{Pool: to.pool, Name: to.name, JobOptions: s.jobOptions()}
	return s.run(ctx, start{object: to.String(), ask: s.job(r.object(), &req).ask})
}

// destination is where a volume is to go: to a pool, with its name, or to a name.
func (s *session) destination(ctx context.Context, given string, r volumeRef) (volumeRef, error) {
	if pool, ok := strings.CutSuffix(given, "/"); ok && checkPool(pool) == nil {
		return volumeRef{pool: pool, name: r.name}, nil
	}
	return s.volume(ctx, given)
}
