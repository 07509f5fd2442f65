package main

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v2"

	"storaged/cmd/internal/cmdline"
	"storaged/internal/backends"
	"storaged/internal/diskio"
	"storaged/internal/quantity"
)

func allocateCommand() *cli.Command {
	return taskCommand(cli.Command{
		Name:        "allocate",
		Usage:       "make a new volume",
		Description: "The volume appears under its name when it is complete, and never replaces another.",
		Flags: append(targetFlags(),
			&cli.StringFlag{Name: "capacity", Usage: "`SIZE` that it can hold"},
			&cli.StringFlag{Name: "allocation", Value: "full", Usage: "`full|none|SIZE` to reserve for it, default full"},
			&cli.StringFlag{Name: "format", Value: "raw", Usage: "format of its content: `raw`"},
			onFailureFlag(),
		),
	}, "--target /var/lib/images/vm1.raw --capacity 10G", buildAllocate)
}

func buildAllocate(c *cli.Context) (task, error) {
	at, err := target(c)
	if err != nil {
		return task{}, err
	}
	capacity, err := neededSize(c, "capacity")
	if err != nil {
		return task{}, err
	}
	a := allocation{at: at, spec: diskio.AllocateSpec{Capacity: capacity}, format: c.String("format")}
	switch n := cmdline.Size(c, "allocation"); {
	case n != nil:
		a.spec.Allocation = min(*n, capacity)
	case c.String("allocation") == "full":
		a.spec.Allocation = capacity
	}
	return task{
		doing:  fmt.Sprintf("allocate %q", at.path),
		done:   fmt.Sprintf("allocated %q", at.path),
		undone: left(c, at),
		keeps:  keeps(c),
		makes:  at.path,
		writes: at.path,
		work:   a.work,
	}, nil
}

type allocation struct {
	at     place
	spec   diskio.AllocateSpec
	format string
}

func (a allocation) work(ctx context.Context, r *run) error {
	r.plan(moving("allocate", a.spec.Allocation), single("commit"))
	r.next(0)
	err := r.create(ctx, a.at, 1, func(d backends.Draft) error {
		did, err := diskio.Allocate(ctx, r.pacer, d.File(), a.spec)
		r.report.Method, r.report.Bytes = did.Method, a.spec.Allocation
		if err == nil && !did.Kept {
			r.warn("the file system reserved %s of %s; its space may run out later", quantity.FormatBytes(did.Allocated), quantity.FormatBytes(a.spec.Allocation))
		}
		return err
	})
	if r.report.Volume != nil {
		r.report.Volume.Format = a.format
	}
	return err
}
