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
			"volume.\n\n" +
			"Example: storagedctl vol rebase images/vm1.qcow2 --backing images/base2.qcow2",
		Flags:  jobFlags(&cli.StringFlag{Name: "backing", Usage: "what it is to stand on: `VOL`"}),
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
	return s.onVolume(ctx, &operation.RebaseRequest{Backing: backing.String(), JobOptions: s.jobOptions()}, nil)
}
