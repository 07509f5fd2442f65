package main

import (
	"context"

	"github.com/urfave/cli/v2"

	"storaged/internal/operation"
)

func (t *tool) moveVerb() *cli.Command {
	return &cli.Command{
		Name: "move", Usage: "give a volume another name, in its pool or another", ArgsUsage: "VOL POOL/NAME",
		Description: "To a pool on another file system it is copied, and removed when the copy is complete. A volume\nthat is in use, or that others stand on, is refused.\n\n" +
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
	to, err := s.volume(ctx, s.arg(1))
	if err != nil {
		return err
	}
	req := operation.MoveRequest{Pool: to.pool, Name: to.name, JobOptions: s.jobOptions()}
	return s.run(ctx, start{object: to.String(), ask: s.job(r.object(), &req).ask})
}
