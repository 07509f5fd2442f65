package main

import (
	"cmp"
	"context"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"storaged/internal/operation"
	"storaged/internal/record"
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
	refs, outcomes, err := findEach(names, func(given string) (volumeRef, error) { return s.doomedVolume(ctx, given) },
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

// doomedVolume finds a volume that is to be deleted. By its key the daemon may know one that
// is not there any more: what its name was then a path tells too.
func (s *session) doomedVolume(ctx context.Context, given string) (volumeRef, error) {
	r, err := s.volume(ctx, given)
	if record.CodeOf(err) != record.NotFound || !s.cli.IsSet("idempotency-key") {
		return r, err
	}
	pools, wrong := s.client.Pools(ctx)
	for _, p := range pools {
		if p.Target.Path == filepath.Dir(given) {
			return volumeRef{pool: p.Name, name: filepath.Base(given)}, wrong
		}
	}
	return r, cmp.Or(wrong, err)
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
