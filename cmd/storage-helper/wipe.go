package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"storaged/internal/backends"
	"storaged/internal/diskio"
	"storaged/internal/ipc"
	"storaged/internal/record"
)

func wipeCommand() *cli.Command {
	return taskCommand(cli.Command{
		Name:  "wipe",
		Usage: "overwrite the content of a volume",
		Description: "The volume keeps its name and size. Where an overwrite cannot reach all of the old content\n" +
			"(shared blocks, a file system that writes elsewhere) it is refused, unless --accept-limits.",
		Flags: append(targetFlags(),
			&cli.StringFlag{Name: "algorithm", Value: diskio.AlgorithmZero, Usage: "`" + strings.Join(diskio.Algorithms(), "|") + "`, default zero"},
			&cli.BoolFlag{Name: "verify", Usage: "read it back from the device"},
			&cli.BoolFlag{Name: "accept-limits", Usage: "wipe also what cannot be wiped wholly"},
			yesFlag(),
		),
	}, "--target old.raw --verify --yes", buildWipe)
}

func buildWipe(c *cli.Context) (task, error) {
	at, err := target(c)
	if err != nil {
		return task{}, err
	}
	w := wipe{at: at, accept: c.Bool("accept-limits"), spec: diskio.WipeSpec{Algorithm: c.String("algorithm"), Verify: c.Bool("verify")}}
	return task{
		doing:  fmt.Sprintf("wipe %q", at.path),
		done:   fmt.Sprintf("wiped %q", at.path),
		undone: fmt.Sprintf("what is overwritten of %q already stays so", at.path),
		ask:    fmt.Sprintf("the whole content of %q (%s) will be overwritten", at.path, length(at.path)),
		reads:  at.path,
		writes: at.path,
		work:   w.work,
	}, nil
}

type wipe struct {
	at     place
	spec   diskio.WipeSpec
	accept bool
}

func (w wipe) work(ctx context.Context, r *run) error {
	return r.inPlace(ctx, w.at, func(v backends.Volume) error {
		size, err := sizeOf(v)
		if err != nil {
			return err
		}
		r.plan(w.phase(size))
		r.next(0)
		return w.overwrite(ctx, r, v)
	})
}

// phase is the plan of the wiping.
func (w wipe) phase(size int64) ipc.PlanPhase {
	return moving("wipe", size*int64(w.spec.Rounds()))
}

// overwrite is the wiping itself, in the current phase.
func (w wipe) overwrite(ctx context.Context, r *run, v backends.Volume) error {
	if err := w.reach(ctx, v); err != nil {
		return err
	}
	before := r.pacer.Counts().Written
	did, err := diskio.Wipe(ctx, r.pacer, v.File(), w.spec)
	r.report.Method, r.report.Algorithm, r.report.Passes = did.Method, did.Algorithm, did.Passes
	r.report.Bytes, r.report.Limits = did.Bytes, did.Limits
	r.report.Checked, r.report.Verified = w.spec.Verify || did.Verified, did.Verified
	if err != nil && r.pacer.Counts().Written > before {
		r.report.Rollback = string(record.RollbackKept)
	}
	return err
}

// reach refuses, before anything is written, a wipe that leaves old content
// somewhere, unless that is accepted.
func (w wipe) reach(ctx context.Context, v backends.Volume) error {
	if w.accept {
		return nil
	}
	limits, err := diskio.WipeLimits(ctx, v.File())
	if err != nil || len(limits) == 0 {
		return err
	}
	return &ipc.Error{
		Code:    string(record.Unsupported),
		Message: fmt.Sprintf("cannot wipe %q wholly: %s; nothing was overwritten", w.at.path, strings.Join(limits, "; ")),
		Hint:    "--accept-limits wipes what can be reached",
		Offset:  -1,
	}
}
