package main

import (
	"context"

	"github.com/urfave/cli/v2"

	"storaged/cmd/internal/cmdline"
	"storaged/internal/operation"
)

func (t *tool) cloneVerb() *cli.Command {
	return &cli.Command{
		Name: "clone", Usage: "copy a volume", ArgsUsage: "VOL POOL/NAME…",
		Description: "Example: storagedctl vol clone images/base.raw images/vm1.raw images/vm2.raw",
		Flags: jobFlags(
			&cli.StringFlag{Name: "format", Usage: "its format (default: the source's): `FORMAT`"},
			&cli.StringFlag{Name: "size", Usage: "its capacity (default: the source's): `SIZE`"},
			&cli.StringFlag{Name: "reflink", Usage: "share blocks with the source: `auto|always|never`"},
			&cli.BoolFlag{Name: "sparse", Usage: "leave out blocks of zeros, and reserve no space"},
			&cli.BoolFlag{Name: "exist-ok", Usage: "no failure if there is a volume of that size already"}),
		Action: t.changing(volumeClone),
	}
}

func volumeClone(ctx context.Context, s *session) error {
	source, err := s.volume(ctx, s.arg(0))
	if err != nil {
		return err
	}
	targets, err := s.volumes(ctx, s.args()[1:])
	if err != nil {
		return err
	}
	req := operation.CloneRequest{Format: s.cli.String("format"), Reflink: s.cli.String("reflink"), Sparse: s.cli.Bool("sparse"), JobOptions: s.jobOptions()}
	if n := cmdline.Size(s.cli, "size"); n != nil {
		req.Size = *n
	}
	want, err := s.cloneSpec(ctx, source, req)
	if err != nil {
		return err
	}
	var starts []start
	for _, target := range targets {
		req := req
		req.Pool, req.Name = target.pool, target.name
		st := s.job(source.object(), &req)
		starts = append(starts, start{object: target.String(), ask: s.afterMaker(target, st.ask), settle: s.existOK(target, want)})
	}
	return s.run(ctx, starts...)
}

// cloneSpec says what a clone will be; it is needed for --exist-ok only.
func (s *session) cloneSpec(ctx context.Context, source volumeRef, req operation.CloneRequest) (volumeSpec, error) {
	want := volumeSpec{req.Size, req.Format}
	if !s.cli.Bool("exist-ok") || want.capacity != 0 {
		return want, nil
	}
	v, err := s.client.Volume(ctx, source.pool, source.name)
	want.capacity = v.Capacity
	return want, err
}
