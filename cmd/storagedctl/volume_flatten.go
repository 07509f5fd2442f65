package main

import (
	"context"

	"github.com/urfave/cli/v2"

	"storaged/internal/operation"
)

func (t *tool) flattenVerb() *cli.Command {
	return &cli.Command{
		Name: "flatten", Usage: "make a volume independent of what it stands on", ArgsUsage: "VOL",
		Description: "What it lacks itself is copied into it. The content stays the same, also where the job is canceled\n" +
			"or interrupted: then it stands on what it stood on, and the same again goes on. Snapshots of VOL stay as\n" +
			"they are; of those that stand on another volume still a warning names that, which has to stay as long\n" +
			"as they do (vol snapshot delete).\n\n" +
			"Example: storagedctl vol flatten images/vm1.qcow2",
		Flags: jobFlags(), Action: t.changing(volumeFlatten),
	}
}

func volumeFlatten(ctx context.Context, s *session) error {
	return s.onVolume(ctx, &operation.FlattenRequest{JobOptions: s.jobOptions()}, nil)
}
