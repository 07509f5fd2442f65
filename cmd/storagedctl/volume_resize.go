package main

import (
	"context"
	"fmt"
	"math"

	"github.com/urfave/cli/v2"

	"storaged/cmd/internal/cmdline"
	"storaged/internal/operation"
	"storaged/internal/quantity"
	"storaged/internal/record"
)

func (t *tool) resizeVerb() *cli.Command {
	return &cli.Command{
		Name: "resize", Usage: "give a volume another capacity", ArgsUsage: "VOL SIZE|+SIZE",
		Description: "SIZE is what a guest sees, of an image too; which formats can be resized is in content_verbs of the\n" +
			"capabilities. A raw volume may be read while it grows, an image not.\n\n" +
			"Example: storagedctl vol resize images/vm1.raw +5G",
		Flags: jobFlags(
			&cli.BoolFlag{Name: "shrink", Usage: "allow it to cut off the end of the content"},
			&cli.BoolFlag{Name: "allocate", Usage: "allocate what is added"}, yesFlag()),
		Action: t.changing(volumeResize),
	}
}

func volumeResize(ctx context.Context, s *session) error {
	r, err := s.volume(ctx, s.arg(0))
	if err != nil {
		return err
	}
	capacity, err := s.newCapacity(ctx, r, s.arg(1))
	if err != nil {
		return err
	}
	req := operation.ResizeRequest{Capacity: capacity, Shrink: s.cli.Bool("shrink"), Allocate: s.cli.Bool("allocate"), JobOptions: s.jobOptions()}
	if req.Shrink {
		if err := s.confirm(ctx, s.losing(fmt.Sprintf("cuts %s off after %s", r, quantity.FormatBoth(capacity)), r)); err != nil {
			return err
		}
	}
	return s.run(ctx, s.job(r.object(), &req))
}

// newCapacity reads SIZE or +SIZE; the latter is added to what there is.
func (s *session) newCapacity(ctx context.Context, r volumeRef, given string) (int64, error) {
	n, relative, err := quantity.ParseRelative(given)
	if err != nil {
		return 0, cmdline.Usagef("%s", err)
	}
	switch {
	case !relative && n == 0:
		return 0, cmdline.Usagef("a volume has more than 0 bytes").WithHint("%s", record.Do("volume.delete", r))
	case !relative:
		return n, nil
	}
	v, err := s.client.Volume(ctx, r.pool, r.name)
	if err != nil {
		return 0, err
	}
	if v.Capacity > math.MaxInt64-n {
		return 0, cmdline.Usagef("%s with %s more would be too large", r, given)
	}
	return v.Capacity + n, nil
}
