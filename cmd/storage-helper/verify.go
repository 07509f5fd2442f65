package main

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v2"

	"storaged/internal/backends"
	"storaged/internal/diskio"
	"storaged/internal/record"
)

func verifyCommand() *cli.Command {
	return taskCommand(cli.Command{
		Name:        "verify",
		Usage:       "read a volume and give its checksum",
		Description: "With --checksum a content that differs is exit code 10.",
		Flags: append(targetFlags(),
			&cli.StringFlag{Name: "checksum", Usage: "`CHECKSUM` that it should have, sha256:HEX"},
			resumeFlag(),
		),
	}, "--target base.raw --checksum sha256:9f86d081884c7d65…", buildVerify)
}

func buildVerify(c *cli.Context) (task, error) {
	at, err := target(c)
	if err != nil {
		return task{}, err
	}
	want := c.String("checksum")
	if want != "" {
		if want, err = record.ParseChecksum(want); err != nil {
			return task{}, record.Errorf(record.Invalid, "%v", err)
		}
	}
	return task{
		name: c.Command.Name, resumes: c.Bool("resume"),
		doing:  fmt.Sprintf("verify %q", at.path),
		done:   fmt.Sprintf("read %q", at.path),
		undone: "nothing was changed",
		reads:  at.path,
		work:   verification{at, want}.work,
	}, nil
}

type verification struct {
	at   place
	want string // "" is any
}

func (w verification) work(ctx context.Context, r *run) error {
	v, err := r.open(ctx, w.at, backends.ReadShared)
	if err != nil {
		return err
	}
	defer v.Close() // opened for reading
	size, err := sizeOf(v)
	if err != nil {
		return err
	}
	held, err := r.held(v.File())
	if err != nil {
		return err
	}
	r.plan(growing(moving("read", size)))
	r.next(0)
	var sum diskio.SumStats
	err = r.share(ctx, v, func(ctx context.Context) error {
		sum, err = diskio.SumFrom(ctx, r.pacer, v.File(), r.sums(position{Source: held}))
		return err
	})
	if err != nil {
		return err
	}
	got := record.Checksum(sum.SHA256)
	r.report.Checksum, r.report.Bytes = got, sum.Bytes
	r.report.Checked, r.report.Verified = w.want != "", w.want == got
	if err := r.describe(v); err != nil {
		return err
	}
	if w.want != "" && w.want != got {
		return failed(record.Mismatch, "%q has checksum %s, not %s", w.at.path, got, w.want)
	}
	return nil
}
