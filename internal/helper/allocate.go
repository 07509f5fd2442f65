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

// Allocate makes the task of an operation.
func Allocate(o *operation.Create) (Task, error) {
	at, err := volume(o, "target", o.Volume)
	if err != nil {
		return Task{}, err
	}
	if o.From != "" {
		return buildFilled(o, at)
	}
	if err := needed(o, "capacity", o.Capacity != 0); err != nil {
		return Task{}, err
	}
	if o.Format != record.FormatRaw {
		return Task{}, record.Errorf(record.Unsupported, "a volume of format %s can be made of a content only (--source)", o.Format)
	}
	a := allocation{at: at, spec: diskio.AllocateSpec{Capacity: o.Capacity, Allocation: o.Capacity}, format: o.Format}
	if o.Allocation != nil {
		a.spec.Allocation = min(*o.Allocation, o.Capacity)
	}
	return Task{
		name: o.Task().Name, resumes: o.Resume,
		doing:   fmt.Sprintf("allocate %q", at.path),
		done:    fmt.Sprintf("allocated %q", at.path),
		undone:  left(o.Keep, at),
		keeps:   o.Keep,
		makes:   at.path,
		writes:  at.path,
		changes: []pool{at.in()},
		work:    a.work,
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
		a.spec.Keep = r.checkpoints(position{}, d.File(), r.id)
		method, err := reserveIn(ctx, r, d, a.spec)
		r.report.Method, r.report.Bytes = method, a.spec.Allocation
		return err
	})
	if r.report.Volume != nil {
		r.report.Volume.Format = a.format
	}
	return err
}

// reserveIn gives a draft its size and the space that is reserved for it.
func reserveIn(ctx context.Context, r *run, d backends.Draft, spec diskio.AllocateSpec) (method string, err error) {
	did, err := diskio.Allocate(ctx, r.pacer, d.File(), spec)
	if err == nil && !did.Kept {
		r.warn("the file system reserved %s of %s; its space may run out later", quantity.FormatBytes(did.Allocated), quantity.FormatBytes(spec.Allocation))
	}
	return did.Method, err
}
