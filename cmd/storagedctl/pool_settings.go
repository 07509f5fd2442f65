package main

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v2"

	"storaged/internal/service/contract"
)

func (t *tool) autostartVerb() *cli.Command {
	return &cli.Command{
		Name: "autostart", Usage: "start a pool with the daemon", ArgsUsage: "POOL",
		Flags:  []cli.Flag{&cli.BoolFlag{Name: "disable", Usage: "do not start it with the daemon"}, &cli.BoolFlag{Name: "dry-run", Usage: "say what would be changed, and do nothing"}},
		Action: t.changing(poolAutostart),
	}
}

func poolAutostart(ctx context.Context, s *session) error {
	on := !s.cli.Bool("disable")
	if s.cli.Bool("dry-run") {
		s.note(fmt.Sprintf("would set autostart of pool %s to %s", s.arg(0), yesNo(on)))
		return nil
	}
	p, err := s.client.PatchPool(ctx, s.submission(s.arg(0), false), s.arg(0), contract.PoolPatch{Autostart: &on})
	if err != nil {
		return err
	}
	s.note(fmt.Sprintf("pool %s: autostart %s", p.Name, yesNo(p.Autostart)))
	return s.printChanged(p.Name, p)
}

func (t *tool) undefineVerb() *cli.Command {
	return &cli.Command{
		Name: "undefine", Usage: "forget a pool; its storage is not touched", ArgsUsage: "POOL…",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "missing-ok", Usage: "no failure if there is no such pool"},
			&cli.BoolFlag{Name: "dry-run", Usage: "say what would be changed, and do nothing"},
		},
		Action: t.changing(poolUndefine),
	}
}

func poolUndefine(ctx context.Context, s *session) error {
	pools := s.pools(ctx)
	outcomes := make([]outcome, len(pools))
	for i, pool := range pools {
		if s.cli.Bool("dry-run") {
			s.note("would forget pool " + pool + "; no storage is touched")
			continue
		}
		o := outcome{start: start{object: pool}}
		changed, err := s.client.UndefinePool(ctx, s.submission(pool, len(outcomes) > 1), pool, contract.PoolUndefine{Missing: s.missing()})
		switch o.err = err; {
		case changed:
			s.note("pool " + pool + " is forgotten; no storage was touched")
		case err == nil:
			o.same = &contract.Unchanged{}
		}
		outcomes[i] = o
	}
	if err := s.printOutcomes(outcomes); err != nil {
		return err
	}
	return s.verdict(outcomes)
}
