package main

import (
	"context"

	"github.com/urfave/cli/v2"

	"storaged/internal/operation"
)

func (t *tool) wipeVerb() *cli.Command {
	return &cli.Command{
		Name: "wipe", Usage: "overwrite a volume's content", ArgsUsage: "VOL",
		Description: "Where old content would certainly stay readable (shared blocks, a file system that\n" +
			"does not overwrite in place), the wipe is refused without --accept-limits. What else may\n" +
			"keep old content is named with the result.\n\n" +
			"An image is overwritten as a file, and is a raw volume after that. With --content it stays an\n" +
			"image, of which all that is stored of its content is overwritten. What it stands on is not.\n\n" +
			"Algorithms:\n" +
			"  zero, random             once with zeros, once with random bytes\n" +
			"  nnsa, dod                three times, the last time read back\n" +
			"  pfitzner7, schneier      seven times\n" +
			"  bsi                      nine times\n" +
			"  pfitzner33, gutmann      33 and 35 times\n" +
			"  trim                     gives the blocks back and overwrites nothing\n\n" +
			"Example: storagedctl vol wipe images/old.raw --verify",
		Flags: jobFlags(
			&cli.StringFlag{Name: "algorithm", Usage: "how (default zero): `ALGORITHM`"},
			&cli.BoolFlag{Name: "content", Usage: "of an image only the content, and not its file"},
			&cli.BoolFlag{Name: "verify", Usage: "read it back"},
			&cli.BoolFlag{Name: "accept-limits", Usage: "wipe even if old content will stay readable elsewhere"}, yesFlag()),
		Action: t.changing(volumeWipe),
	}
}

func volumeWipe(ctx context.Context, s *session) error {
	return s.onVolume(ctx, &operation.WipeRequest{
		Algorithm: s.cli.String("algorithm"), Verify: s.cli.Bool("verify"), Content: s.cli.Bool("content"),
		AcceptLimits: s.cli.Bool("accept-limits"), JobOptions: s.jobOptions(),
	}, s.overwriting)
}
