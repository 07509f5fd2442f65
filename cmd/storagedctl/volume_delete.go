package main

import (
	"context"
	"strings"

	"github.com/urfave/cli/v2"

	"storaged/internal/operation"
)

func (t *tool) deleteVerb() *cli.Command {
	return &cli.Command{
		Name: "delete", Usage: "delete volumes", ArgsUsage: "VOL…", Description: patterns,
		Flags: jobFlags(
			&cli.StringFlag{Name: "wipe", Usage: "wipe them first, with zeroes or another algorithm: `[=ALGORITHM]`"},
			&cli.BoolFlag{Name: "accept-limits", Usage: "wipe even if old content will stay readable elsewhere"},
			&cli.BoolFlag{Name: "with-snapshots", Usage: "delete their snapshots too; that needs no room"},
			&cli.BoolFlag{Name: "missing-ok", Usage: "no failure if there is no such volume"}, yesFlag()),
		Action: t.changing(volumeDelete),
	}
}

func volumeDelete(ctx context.Context, s *session) error {
	names, err := s.wanted(ctx, s.args())
	if err != nil {
		return err
	}
	refs, outcomes, err := findEach(names, func(given string) (volumeRef, error) { return s.volume(ctx, given) },
		func(a, b volumeRef) bool { return a == b })
	if err == nil && len(refs) > 0 {
		err = s.confirm(ctx, s.losing("deletes "+named(refs), refs...))
	}
	if err != nil {
		return err
	}
	req := operation.DeleteRequest{Wipe: s.cli.String("wipe"), AcceptLimits: s.cli.Bool("accept-limits"), WithSnapshots: s.cli.Bool("with-snapshots"), Missing: s.missing(), JobOptions: s.jobOptions()}
	if s.cli.IsSet("wipe") && req.Wipe == "" {
		req.Wipe = "zero"
	}
	var starts []start
	for _, o := range outcomes {
		st := s.unfound(o)
		if o.err == nil {
			r := refs[0]
			refs = refs[1:]
			st = s.job(r.object(), &req)
		}
		starts = append(starts, st)
	}
	return s.run(ctx, starts...)
}

// mostNamed is how many volumes are named in a sentence; of more there is a list.
const mostNamed = 8

func named(refs []volumeRef) string {
	if len(refs) > mostNamed {
		return plural(len(refs), "volume")
	}
	names := make([]string, len(refs))
	for i, r := range refs {
		names[i] = r.String()
	}
	return strings.Join(names, ", ")
}
