package main

import (
	"context"

	"github.com/urfave/cli/v2"

	"storaged/internal/operation"
	"storaged/internal/record"
)

func (t *tool) verifyVerb() *cli.Command {
	return &cli.Command{
		Name: "verify", Usage: "read a volume and give its checksum", ArgsUsage: "VOL",
		Description: "The checksum is recorded with the volume. It is compared with --checksum, and without\nthat with what was recorded before, unless the volume was changed since; a content that\ndiffers is exit code 10. It is of what a guest sees: the same content has the same in every\nformat.\n\n" +
			"With --check or --repair the tables of an image are checked instead; corruption that is found\nand stays is exit code 10, too. --repair all may lose content, and asks before: make a copy\nof the file. It makes a file that is cut off as long as it was: what is lost reads as zeros then.\n\n" +
			"Examples:\n  storagedctl vol verify images/base.raw\n  storagedctl vol verify images/vm1.qcow2 --repair leaks",
		Flags: jobFlags(&cli.StringFlag{Name: "checksum", Usage: "sha256 or crc32c; with :HEX what it should have: `CHECKSUM`"},
			asFlag("of an image the content that a guest sees (default), or its file as it is: `raw|file`"),
			&cli.BoolFlag{Name: "check", Usage: "check the tables of an image, and not its content"},
			&cli.StringFlag{Name: "repair", Usage: "check them, and repair what is found: leaks changes no content, all may lose some: `leaks|all`"}, yesFlag()),
		Action: t.changing(volumeVerify),
	}
}

func volumeVerify(ctx context.Context, s *session) error {
	if s.cli.Bool("check") || s.cli.IsSet("repair") {
		if s.cli.IsSet("checksum") || s.cli.IsSet("as") {
			return record.Errorf(record.Invalid, "--check and --repair are about the tables of an image, --checksum and --as about its content")
		}
		loses := map[string]func(volumeRef) ruin{record.RepairAll: s.repairing}[s.cli.String("repair")]
		return s.onVolume(ctx, &operation.CheckRequest{Repair: s.cli.String("repair"), JobOptions: s.jobOptions()}, loses)
	}
	return s.onVolume(ctx, &operation.VerifyRequest{Checksum: s.cli.String("checksum"), As: s.cli.String("as"), JobOptions: s.jobOptions()}, nil)
}

// repairing is the ruin of a volume whose tables are repaired.
func (s *session) repairing(r volumeRef) ruin {
	return s.losing("repairs all that can be of the tables of "+r.String()+", and may lose what they do not lead to", r)
}
