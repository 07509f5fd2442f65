package main

import (
	"context"
	"slices"

	"github.com/urfave/cli/v2"

	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/service/contract"
)

func (t *tool) evacuateVerb() *cli.Command {
	return &cli.Command{
		Name: "evacuate", Usage: "move the volumes of a pool to another", ArgsUsage: "POOL",
		Description: "One after the other, each as by \"vol move\". One that cannot be moved stays, and makes the exit code 11.\nBetween two volumes other jobs get their turn.\n\n" +
			"Example: storagedctl pool evacuate images --to archive --only 'vm*'",
		Flags: jobFlags(
			&cli.StringFlag{Name: "to", Required: true, Usage: "the pool to move to: `POOL`"},
			&cli.StringFlag{Name: "only", Usage: "only volumes whose names match: `GLOB`"},
			&cli.BoolFlag{Name: "skip-busy", Usage: "a volume that is in use stays, and is no failure"},
			&cli.BoolFlag{Name: "keep-source", Usage: "clone instead of moving"},
			&cli.StringFlag{Name: "on-error", Usage: "what to do after a failure (default continue): `continue|stop`"}, yesFlag()),
		Action: t.changing(poolEvacuate),
	}
}

func poolEvacuate(ctx context.Context, s *session) error {
	pool := s.arg(0)
	r := operation.EvacuateRequest{
		To: s.cli.String("to"), Only: s.cli.String("only"), SkipBusy: s.cli.Bool("skip-busy"),
		KeepSource: s.cli.Bool("keep-source"), OnError: s.cli.String("on-error"), JobOptions: s.jobOptions(),
	}
	st := s.job(record.Object{Pool: pool}, &r)
	if !r.KeepSource {
		asked := !slices.ContainsFunc([]string{"yes", "dry-run", "idempotency-key"}, s.cli.IsSet)
		if asked { // nobody is, about what is refused
			if _, err := st.ask(ctx, contract.Submit{DryRun: true}); err != nil {
				return err
			}
		}
		err := s.confirm(ctx, ruin{
			what: "moves volumes of pool " + pool + " to " + r.To,
			list: func(ctx context.Context) ([]string, error) { return s.matching(ctx, pool, r.Only) },
		})
		if err != nil {
			return err
		}
	}
	return s.run(ctx, st)
}

// matching lists the volumes of a pool whose names match, as far as the
// catalog knows.
func (s *session) matching(ctx context.Context, pool, pattern string) ([]string, error) {
	volumes, err := s.client.PoolVolumes(ctx, pool)
	if err != nil {
		return nil, err
	}
	volumes = slices.DeleteFunc(volumes, func(v record.Volume) bool {
		ok, err := record.MatchName(pattern, v.Name)
		return !ok || err != nil
	})
	return s.content(ctx, volumes)
}
