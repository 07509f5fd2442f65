package main

import (
	"context"

	"github.com/urfave/cli/v2"

	"storaged/cmd/internal/cmdline"
	"storaged/internal/operation"
	"storaged/internal/quantity"
	"storaged/internal/record"
)

func (t *tool) createVerb() *cli.Command {
	return &cli.Command{
		Name: "create", Usage: "make a volume", ArgsUsage: "POOL/NAME [SIZE]",
		Description: "A raw volume is fully allocated unless --allocation says otherwise. With --from it is written with that\n" +
			"content before it appears under its name. It is then as large as the content, or SIZE if that is more, and\n" +
			"only the data is allocated. A file in another format than raw is stored unchanged with --format FORMAT: it\n" +
			"must begin like an image in FORMAT, and its header gives the size.\n" +
			"--as-format, --detect-zeros, --sparse, --unpack and --checksum are about that content.\n\n" +
			"Examples:\n  storagedctl vol create images/vm1.raw 10G\n  storagedctl vol create images/vm2.raw 10G --allocation none\n" +
			"  storagedctl vol create images/vm3.raw --from vm3.img\n  storagedctl vol create images/vm4.qcow2 --from vm4.qcow2 --format qcow2",
		Flags: jobFlags(append(uploadFlags(),
			&cli.StringFlag{Name: "from", Usage: "`FILE|-` with its content"},
			&cli.StringFlag{Name: "format", Usage: "its format (default raw): `FORMAT`"},
			&cli.StringFlag{Name: "allocation", Usage: "how much to allocate: `full|none|SIZE`"},
			&cli.BoolFlag{Name: "exist-ok", Usage: "no failure if there is the same volume already"})...),
		Action: t.changing(volumeCreate),
	}
}

func volumeCreate(ctx context.Context, s *session) error {
	r, err := s.volume(ctx, s.arg(0))
	if err != nil {
		return err
	}
	capacity := int64(0)
	if s.arg(1) == "" && !s.cli.IsSet("from") {
		return cmdline.Usagef("SIZE or --from is missing")
	}
	if s.arg(1) != "" || !s.cli.IsSet("from") {
		if capacity, err = quantity.ParseSize(s.arg(1)); err != nil {
			return cmdline.Usagef("%s", err)
		}
	}
	if s.cli.IsSet("from") {
		return s.createFrom(ctx, r, capacity)
	}
	req := operation.CreateRequest{
		Name: r.name, Capacity: capacity, Format: s.cli.String("format"),
		Allocation: allocation(s.cli.String("allocation")), ExistOK: s.cli.Bool("exist-ok"), JobOptions: s.jobOptions(),
	}
	st := s.job(record.Object{Pool: r.pool}, &req)
	st.object = r.String()
	return s.run(ctx, st)
}

// allocation reads full, none or a size; the grammar has checked it.
func allocation(given string) *operation.Allocation {
	switch given {
	case "":
		return nil
	case "full":
		return &operation.Allocation{Full: true}
	case "none":
		return &operation.Allocation{}
	}
	n, err := quantity.ParseSize(given)
	if err != nil {
		panic("internal error: an allocation was not checked: " + err.Error())
	}
	return &operation.Allocation{Bytes: n}
}
