package main

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v2"

	"storaged/internal/operation"
	"storaged/internal/record"
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
	format, err := s.wipedAsFile(ctx)
	if err != nil {
		return err
	}
	if format != "" && s.cli.Bool("dry-run") {
		s.note(fmt.Sprintf("storagedctl: %s, in format %s, would be a raw volume then; --content keeps it an image", s.arg(0), format))
	}
	return s.onVolume(ctx, &operation.WipeRequest{
		Algorithm: s.cli.String("algorithm"), Verify: s.cli.Bool("verify"), Content: s.cli.Bool("content"),
		AcceptLimits: s.cli.Bool("accept-limits"), JobOptions: s.jobOptions(),
	}, func(r volumeRef) ruin {
		what := "overwrites the content of " + r.String()
		if format != "" {
			what = fmt.Sprintf("overwrites %s, an image in format %s, as a file, and makes a raw volume of it (--content keeps it an image)", r, format)
		}
		return s.losing(what, r)
	})
}

// wipedAsFile gives the format of an image that is to be wiped as a file, where somebody is
// asked or told; else "".
func (s *session) wipedAsFile(ctx context.Context) (string, error) {
	if s.cli.Bool("content") || s.cli.IsSet("yes") && !s.cli.Bool("dry-run") {
		return "", nil
	}
	r, err := s.volume(ctx, s.arg(0))
	if err != nil {
		return "", err
	}
	v, err := s.client.Volume(ctx, r.pool, r.name)
	if err != nil || v.Format == "" || record.Plain(v.Format) {
		return "", err
	}
	return v.Format, nil
}
