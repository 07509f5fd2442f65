package main

import (
	"context"

	"github.com/urfave/cli/v2"

	"storaged/internal/operation"
)

func (t *tool) verifyVerb() *cli.Command {
	return &cli.Command{
		Name: "verify", Usage: "read a volume and give its checksum", ArgsUsage: "VOL",
		Description: "The checksum is recorded with the volume. It is compared with --checksum, and without\nthat with what was recorded before, unless the volume was changed since; a content that\ndiffers is exit code 10. It is of what a guest sees: the same content has the same in every\nformat.\n\nExample: storagedctl vol verify images/base.raw",
		Flags: jobFlags(&cli.StringFlag{Name: "checksum", Usage: "sha256 or crc32c; with :HEX what it should have: `CHECKSUM`"},
			asFlag("of an image the content that a guest sees (default), or its file as it is: `raw|file`")),
		Action: t.changing(volumeVerify),
	}
}

func volumeVerify(ctx context.Context, s *session) error {
	return s.onVolume(ctx, &operation.VerifyRequest{Checksum: s.cli.String("checksum"), As: s.cli.String("as"), JobOptions: s.jobOptions()}, nil)
}
