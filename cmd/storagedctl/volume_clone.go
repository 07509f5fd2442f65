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
		Description: "The file is copied, or shared where the file system can. In another --format, with an --option, and of an\n" +
			"image of another --size or one that stands on others, what a virtual machine sees is copied instead. Either\n" +
			"copy needs no other volume. With --linked it is an empty image that stands on VOL, made at once; VOL can\n" +
			"grow from then on, but is not written to, moved or deleted while others stand on it. A capacity in a format\n" +
			"other than raw consists of sectors of 512 bytes: it is rounded up, with zeros, and a warning says so.\n" +
			"The content of an encrypted VOL is copied in clear only in another --format than it has, without --secret.\n" +
			"With --overwrite the raw volume NAME is there already, a logical unit of iSCSI say, and its content is lost to what\n" +
			"a virtual machine sees of VOL, with zeros behind it.\n\n" +
			"Examples:\n  storagedctl vol clone images/base.raw images/vm1.raw images/vm2.raw\n  storagedctl vol clone images/base.qcow2 images/vm3.qcow2 --linked\n" +
			"  storagedctl vol clone images/vm4.vmdk images/vm4.qcow2 --format qcow2 -O compression=zstd\n" +
			"  storagedctl vol clone images/vm1.raw images/vm1.luks --format luks --secret disks",
		Flags: jobFlags(append(volumeRightsFlags(),
			&cli.StringFlag{Name: "format", Usage: "its format (default: the source's), of " + creatable() + ": `FORMAT`"},
			&cli.StringFlag{Name: "size", Usage: "its capacity (default: the source's): `SIZE`"},
			&cli.StringFlag{Name: "secret", Usage: "encrypt the copy (formats luks and qcow2), so that this opens it: `SECRET`"},
			&cli.BoolFlag{Name: "linked", Usage: "stand on VOL instead of copying it, in format qcow2 unless --format says another"},
			optionFlag(),
			&cli.StringFlag{Name: "reflink", Usage: "share blocks with the source: `auto|always|never`"},
			&cli.BoolFlag{Name: "sparse", Usage: "leave out blocks of zeros, and reserve no space"},
			&cli.BoolFlag{Name: "overwrite", Usage: "write it over the content of a volume that is there"}, yesFlag(),
			&cli.BoolFlag{Name: "exist-ok", Usage: "no failure if there is a volume of that size already"})...),
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
	req := operation.CloneRequest{Format: s.cli.String("format"), Secret: s.cli.String("secret"), Linked: s.cli.Bool("linked"), Options: s.options(), Reflink: s.cli.String("reflink"), Sparse: s.cli.Bool("sparse"), ExistOK: s.cli.Bool("exist-ok"), Overwrite: s.cli.Bool("overwrite"), JobOptions: s.jobOptions()}
	if n := cmdline.Size(s.cli, "size"); n != nil {
		req.Size = *n
	}
	if req.Rights, err = s.rights(); err != nil {
		return err
	}
	if err := s.misnamedClones(ctx, source, targets, req); err != nil {
		return err
	}
	if req.Overwrite {
		if err := s.confirm(ctx, s.losing("overwrites the content of "+named(targets), targets...)); err != nil {
			return err
		}
	}
	var starts []start
	for _, target := range targets {
		req := req
		req.Pool, req.Name = target.pool, target.name
		st := s.job(source.object(), &req)
		st.object = target.String()
		starts = append(starts, st)
	}
	return s.run(ctx, starts...)
}

// misnamedClones warns of clones whose names end with a format that they will not be in.
func (s *session) misnamedClones(ctx context.Context, source volumeRef, targets []volumeRef, r operation.CloneRequest) error {
	if r.Format != "" || r.Overwrite {
		return nil
	}
	if r.Linked {
		for _, target := range targets {
			s.misnamedImage(target, operation.LinkedFormat)
		}
		return nil
	}
	v, err := s.client.Volume(ctx, source.pool, source.name)
	if err != nil {
		return err
	}
	for _, target := range targets {
		s.misnamed(target, v.Format)
	}
	return nil
}
