package main

import (
	"context"

	"github.com/urfave/cli/v2"

	"storaged/internal/operation"
)

func (t *tool) trimVerb() *cli.Command {
	return &cli.Command{
		Name: "trim", Usage: "give back the space of what reads as zeros in a volume", ArgsUsage: "VOL",
		Description: "The content stays the same, also where the job is canceled or interrupted. A volume that\n" +
			"has space reserved is refused without --give-up-allocation; then none is reserved after.\n" +
			"A qcow2 image gives up what a guest sees as zeros; of every image the zeros in its file become holes.\n\n" +
			"Example: storagedctl vol trim images/vm1.raw",
		Flags: jobFlags(
			&cli.BoolFlag{Name: "give-up-allocation", Usage: "although space is reserved for it"}),
		Action: t.changing(volumeTrim),
	}
}

func volumeTrim(ctx context.Context, s *session) error {
	return s.onVolume(ctx, &operation.TrimRequest{GiveUpAllocation: s.cli.Bool("give-up-allocation"), JobOptions: s.jobOptions()}, nil)
}
