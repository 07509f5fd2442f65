package main

import (
	"context"

	"github.com/urfave/cli/v2"

	"storaged/cmd/internal/cmdline"
	"storaged/internal/operation"
)

func (t *tool) rebaseVerb() *cli.Command {
	return &cli.Command{
		Name: "rebase", Usage: "have a volume stand on another one, with the content that it has", ArgsUsage: "VOL",
		Description: "Where the new backing has another content than the old one, that of the old one is copied into the\n" +
			"volume. With --unsafe nothing is compared or copied, and the old one may be lost: what the volume has\n" +
			"not itself it takes from the new one, which must have the same content as the old one had.\n\n" +
			"Example: storagedctl vol rebase images/vm1.qcow2 --backing images/base2.qcow2",
		Flags: jobFlags(
			&cli.StringFlag{Name: "backing", Usage: "what it is to stand on: `VOL`"},
			&cli.BoolFlag{Name: "unsafe", Usage: "change the header alone: what it stood on was moved or is lost, and --backing has the same content"},
		),
		Action: t.changing(volumeRebase),
	}
}

func volumeRebase(ctx context.Context, s *session) error {
	if !s.cli.IsSet("backing") {
		return cmdline.Usagef("vol rebase needs --backing")
	}
	backing, err := s.volume(ctx, s.cli.String("backing"))
	if err != nil {
		return err
	}
	return s.onVolume(ctx, &operation.RebaseRequest{Backing: backing.String(), Unsafe: s.cli.Bool("unsafe"), JobOptions: s.jobOptions()}, nil)
}
