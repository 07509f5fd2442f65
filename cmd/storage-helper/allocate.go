package main

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v2"

	"storaged/cmd/internal/cmdline"
	"storaged/internal/backends"
	"storaged/internal/diskio"
	"storaged/internal/quantity"
	"storaged/internal/record"
)

func allocateCommand() *cli.Command {
	return taskCommand(cli.Command{
		Name:  "allocate",
		Usage: "make a new volume",
		Description: "The volume appears under its name when it is complete, and never replaces another. With --source\n" +
			"it gets that content; then its size is that of the content, unless --capacity is more.",
		Flags: append(targetFlags(), contentFlags(
			&cli.StringFlag{Name: "capacity", Usage: "`SIZE` that it can hold"},
			&cli.StringFlag{Name: "allocation", Value: "full", Usage: "`full|none|SIZE` to reserve for it, default full, and none with --source"},
			onFailureFlag(), resumeFlag(),
		)...),
	}, "--target /var/lib/images/vm1.raw --capacity 10G", buildAllocate)
}

func buildAllocate(c *cli.Context) (task, error) {
	at, err := target(c)
	if err != nil {
		return task{}, err
	}
	if c.String("source") != "" {
		return buildFilled(c, at)
	}
	capacity, err := neededSize(c, "capacity")
	if err != nil {
		return task{}, err
	}
	a := allocation{at: at, spec: diskio.AllocateSpec{Capacity: capacity, Allocation: allocationFlag(c, capacity)}, format: c.String("format")}
	if a.format != record.FormatRaw {
		return task{}, record.Errorf(record.Unsupported, "a volume of format %s can be made of a content only (--source)", a.format)
	}
	return task{
		name: c.Command.Name, resumes: c.Bool("resume"),
		doing:   fmt.Sprintf("allocate %q", at.path),
		done:    fmt.Sprintf("allocated %q", at.path),
		undone:  left(c, at),
		keeps:   keeps(c),
		makes:   at.path,
		writes:  at.path,
		changes: []pool{at.in()},
		work:    a.work,
	}, nil
}

// allocationFlag is how much of a capacity is to be reserved.
func allocationFlag(c *cli.Context, capacity int64) int64 {
	if n := cmdline.Size(c, "allocation"); n != nil {
		return min(*n, capacity)
	}
	if c.String("allocation") == "full" {
		return capacity
	}
	return 0
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
		a.spec.Keep = r.checkpoints(position{}, d.File(), r.id)
		method, err := r.allocate(ctx, d, a.spec)
		r.report.Method, r.report.Bytes = method, a.spec.Allocation
		return err
	})
	if r.report.Volume != nil {
		r.report.Volume.Format = a.format
	}
	return err
}

// allocate gives a draft its size and the space that is reserved for it.
func (r *run) allocate(ctx context.Context, d backends.Draft, spec diskio.AllocateSpec) (method string, err error) {
	did, err := diskio.Allocate(ctx, r.pacer, d.File(), spec)
	if err == nil && !did.Kept {
		r.warn("the file system reserved %s of %s; its space may run out later", quantity.FormatBytes(did.Allocated), quantity.FormatBytes(spec.Allocation))
	}
	return did.Method, err
}
