package main

import (
	"context"
	"fmt"
	"math"

	"github.com/urfave/cli/v2"

	"storaged/cmd/internal/cmdline"
	"storaged/internal/backends"
	"storaged/internal/diskio"
	"storaged/internal/quantity"
	"storaged/internal/record"
)

func cloneCommand() *cli.Command {
	return taskCommand(cli.Command{
		Name:        "clone",
		Usage:       "copy a volume to a new one",
		Description: "The copy appears under its name when it is complete, and never replaces another. Holes stay\nholes, unless --allocation says otherwise, and what is reserved stays reserved, but with --sparse. The source is only read; it may grow meanwhile, and the copy\nis of the size it had at the start.",
		Flags: append(append(targetFlags(), sourceFlags("copy")...),
			&cli.StringFlag{Name: "size", Usage: "`SIZE` of the copy, default that of the source"},
			&cli.StringFlag{Name: "reflink", Value: "auto", Usage: "`auto|always|never` share blocks with the source, default auto"},
			reserveFlag(),
			&cli.BoolFlag{Name: "sparse", Usage: "leave out blocks of zeros"},
			onFailureFlag(), resumeFlag(),
		),
	}, "--source base.raw --target vm1.raw --limit 200M", buildClone)
}

func buildClone(c *cli.Context) (task, error) {
	from, err := source(c)
	if err != nil {
		return task{}, err
	}
	to, err := target(c)
	if err != nil {
		return task{}, err
	}
	w := clone{from: from, to: to, reflink: diskio.Reflink(c.String("reflink"))}
	if n := cmdline.Size(c, "size"); n != nil {
		w.size = *n
	}
	w.allocation, w.sparse = reserved(c), c.Bool("sparse")
	if w.sparse && (w.allocation > 0 || w.reflink == diskio.ReflinkAlways) {
		return task{}, record.Errorf(record.Invalid, "--sparse excludes --allocation and --reflink always: what is left out has no blocks")
	}
	return task{
		name: c.Command.Name, resumes: c.Bool("resume"),
		doing:   fmt.Sprintf("clone %q to %q", from.path, to.path),
		done:    fmt.Sprintf("cloned %q to %q", from.path, to.path),
		undone:  left(c, to) + fmt.Sprintf("; %q is as it was", from.path),
		keeps:   keeps(c),
		makes:   to.path,
		reads:   from.path,
		writes:  to.path,
		changes: []pool{to.in()},
		work:    w.work,
	}, nil
}

type clone struct {
	from, to   place
	held       *footprint // the source, when it was opened
	size       int64      // 0 is the source's
	allocation int64
	reflink    diskio.Reflink
	sparse     bool
}

func (w clone) work(ctx context.Context, r *run) error {
	source, err := r.open(ctx, w.from, backends.ReadShared)
	if err != nil {
		return err
	}
	defer source.Close() // opened for reading
	size, err := sizeOf(source)
	if err != nil {
		return err
	}
	if w.size != 0 && w.size < size {
		return failed(record.Invalid, "cannot clone %q, which has %s, to a size of %s", w.from.path, quantity.FormatBoth(size), quantity.FormatBoth(w.size))
	}
	if w.held, err = r.held(source.File()); err != nil {
		return err
	}
	r.plan(growing(moving("copy", size)), single("commit"))
	r.next(0)
	return r.create(ctx, w.to, 1, func(d backends.Draft) error {
		return r.share(ctx, source, func(ctx context.Context) error { return w.copy(ctx, r, source, d) })
	})
}

// copy moves the content into the new volume.
func (w clone) copy(ctx context.Context, r *run, source backends.Volume, d backends.Draft) error {
	did, err := diskio.Copy(ctx, r.pacer, diskio.CopySpec{
		Dst: d.File(), Src: source.File(), Size: w.size, Reflink: w.reflink, Clean: true,
		Allocation: w.allocation, Reserved: !w.sparse, Sparse: w.sparse,
		Checkpoints: r.checkpoints(position{Source: w.held}, d.File(), r.id),
	})
	r.copied(did)
	return err
}

// copied reports what a copy did, and warns of what it has less than its source.
func (r *run) copied(did diskio.CopyStats) {
	r.report.Method, r.report.Bytes = did.Method, did.Bytes
	if did.Allocated > 0 && !did.Kept {
		r.warn("the file system has given the copy only %s of blocks; its space may run out later", quantity.FormatBytes(did.Allocated))
	}
	if did.CopiesOnWrite {
		r.warn("the source is overwritten in place (chattr +C), and where the copy lies it cannot be: what is written to it goes elsewhere each time")
	}
}

// reserveFlag says what a copy is to have allocated.
func reserveFlag() cli.Flag {
	return &cli.StringFlag{Name: "allocation", Value: "none", Usage: "`full|none|SIZE` to reserve for it beside its data, default none"}
}

// reserved reads it, in bytes.
func reserved(c *cli.Context) int64 {
	if n := cmdline.Size(c, "allocation"); n != nil {
		return *n
	}
	if c.String("allocation") == "full" {
		return math.MaxInt64
	}
	return 0
}
