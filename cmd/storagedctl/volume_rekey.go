package main

import (
	"context"

	"github.com/urfave/cli/v2"

	"storaged/internal/operation"
)

func (t *tool) rekeyVerb() *cli.Command {
	return &cli.Command{
		Name: "rekey", Usage: "change by what secrets an encrypted volume can be opened", ArgsUsage: "VOL",
		Description: "Neither is the content read or written, nor does a backup of the volume get other keys by it.\n" +
			"A new secret is tried before the old one is taken away. --opened-by only tries one, and says that it\n" +
			"is what opens the volume, which others may have encrypted. To try a secret takes --iter-time on\n" +
			"purpose, and any change of the keys tries some: one for another takes some ten times as long, about 20 s of\n" +
			"the processor by default.\n\n" +
			"Examples:\n  storagedctl vol rekey images/vm1.luks --secret next\n  storagedctl vol rekey images/vm1.luks --add recovery\n" +
			"  storagedctl vol rekey images/found.luks --opened-by disks",
		Flags: jobFlags(
			&cli.StringFlag{Name: "secret", Usage: "it opens the volume instead of the one that does: `SECRET`"},
			&cli.StringFlag{Name: "add", Usage: "it opens the volume too: `SECRET`"},
			&cli.StringFlag{Name: "remove", Usage: "it opens the volume no longer: `SECRET`"},
			&cli.StringFlag{Name: "opened-by", Usage: "it opens the volume already: try it, and keep that: `SECRET`"},
			&cli.Int64Flag{Name: "iter-time", Usage: "a try of the new secret takes so long on the daemon's host (default 2000), or with --opened-by one of what will stand on the volume: `MILLISECONDS`"}),
		Action: t.changing(volumeRekey),
	}
}

func volumeRekey(ctx context.Context, s *session) error {
	r := &operation.RekeyRequest{Secret: s.cli.String("secret"), Add: s.cli.String("add"), Remove: s.cli.String("remove"), OpenedBy: s.cli.String("opened-by"), IterTime: s.cli.Int64("iter-time"), JobOptions: s.jobOptions()}
	return s.onVolume(ctx, r, nil)
}
