package helper

import (
	"context"
	"fmt"

	"storaged/internal/backends"
	"storaged/internal/diskio"
	"storaged/internal/operation"
	"storaged/internal/quantity"
	"storaged/internal/record"
)

// Clone makes the task of an operation.
func Clone(o *operation.Clone) (Task, error) {
	from, err := volume(o, "source", o.Volume)
	if err != nil {
		return Task{}, err
	}
	to, err := volume(o, "target", operation.Volume(o.Target))
	if err != nil {
		return Task{}, err
	}
	w := clone{from: from, to: to, format: o.Format, size: o.Capacity, allocation: orZero(o.Promise), reflink: diskio.Reflink(o.Reflink), sparse: o.Sparse}
	if w.sparse && (w.allocation > 0 || w.reflink == diskio.ReflinkAlways) {
		return Task{}, record.Errorf(record.Invalid, "--sparse excludes --allocation and --reflink always: what is left out has no blocks")
	}
	return Task{
		name: o.Task().Name, resumes: o.Resume,
		doing:   fmt.Sprintf("clone %q to %q", from.path, to.path),
		done:    fmt.Sprintf("cloned %q to %q", from.path, to.path),
		undone:  left(o.Keep, to) + fmt.Sprintf("; %q is as it was", from.path),
		keeps:   o.Keep,
		makes:   to.path,
		reads:   from.path,
		writes:  to.path,
		copies:  &from,
		changes: []pool{to.in()},
		work:    w.work,
	}, nil
}

type clone struct {
	from, to   place
	held       *footprint // the source, when it was opened
	format     string     // of both
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
	defer source.Close()
	if err := (copying{w.from.path, w.to.path, w.format, true}).admit(source); err != nil {
		return err
	}
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
	attributes, err := diskio.AttributesOf(source.File())
	if err != nil {
		return err
	}
	r.plan(growing(moving("copy", size)), single("commit"))
	r.next(0)
	return r.create(ctx, w.to, 1, func(d backends.Draft) error {
		err := r.share(ctx, source, func(ctx context.Context) error { return w.copy(ctx, r, source, d) })
		if err == nil {
			give(r, d.File(), attributes.OfCopy(), w.to.path)
		}
		return err
	})
}

// copy moves the content into the new volume.
func (w clone) copy(ctx context.Context, r *run, source backends.Volume, d backends.Draft) error {
	did, err := diskio.Copy(ctx, r.pacer, diskio.CopySpec{
		Dst: d.File(), Src: source.File(), Size: w.size, Reflink: w.reflink, Clean: true,
		Allocation: w.allocation, Reserved: !w.sparse, Sparse: w.sparse,
		Checkpoints: r.checkpoints(position{Source: w.held}, d.File(), r.id),
	})
	copied(r, did)
	return err
}

// copied reports what a copy did, and warns of what it has less than its source.
func copied(r *run, did diskio.CopyStats) {
	r.report.Method, r.report.Bytes = did.Method, did.Bytes
	if did.Allocated > 0 && !did.Kept {
		r.warn("the file system has given the copy only %s of blocks; its space may run out later", quantity.FormatBytes(did.Allocated))
	}
	if did.CopiesOnWrite {
		r.warn("the source is overwritten in place (chattr +C), and where the copy lies it cannot be: what is written to it goes elsewhere each time")
	}
}
