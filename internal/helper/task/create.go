package task

import (
	"context"
	"fmt"

	"storaged/internal/backends"
	"storaged/internal/diskio"
	"storaged/internal/helper"
	"storaged/internal/ipc"
	"storaged/internal/operation"
	"storaged/internal/quantity"
	"storaged/internal/record"
)

// Create makes the task of an operation.
func Create(o *operation.Create) (helper.Task, error) {
	at, err := volume(o, "target", o.Volume)
	if err != nil {
		return helper.Task{}, err
	}
	if o.From != "" {
		return createFrom(o, at)
	}
	if err := needed(o, "capacity", o.Capacity != 0); err != nil {
		return helper.Task{}, err
	}
	if o.Format != record.FormatRaw {
		return helper.Task{}, record.Errorf(record.Unsupported, "a volume of format %s can be made of a content only (--source)", o.Format)
	}
	a := allocation{spec: diskio.AllocateSpec{Capacity: o.Capacity, Allocation: o.Capacity}}
	if o.Allocation != nil {
		a.spec.Allocation = min(*o.Allocation, o.Capacity)
	}
	a.draft = &helper.Draft{Location: at, As: backends.NewVolume{Size: o.Capacity, Format: o.Format, Promise: a.spec.Allocation}}
	return helper.Task{
		Name: o.Task().Name, Resumes: o.Resume,
		Doing:  fmt.Sprintf("allocate %q", at.Path),
		Done:   fmt.Sprintf("allocated %q", at.Path),
		Undone: afterCancel(o.Keep, at),
		Keeps:  o.Keep,
		Makes:  at.Path,
		Writes: at.Path,
		Opens:  []helper.Opening{a.draft},
		Work:   a.work,
	}, nil
}

type allocation struct {
	draft *helper.Draft
	spec  diskio.AllocateSpec
}

func (a allocation) work(ctx context.Context, r *helper.Run) error {
	r.Plan(helper.Moving("allocate", a.spec.Allocation), helper.Commit())
	r.Next(0)
	r.Knows(func(v *ipc.Item) { v.Format = a.draft.As.Format })
	return r.Create(ctx, a.draft, func() error {
		a.spec.Keep = r.Checkpoints(helper.Position{}, a.draft.Draft.Content(), r.ID)
		method, err := reserveIn(ctx, r, a.draft.Draft, a.spec)
		r.Report.Method, r.Report.Bytes = method, a.spec.Allocation
		return err
	})
}

// reserveIn gives a draft its size and the space that is reserved for it.
func reserveIn(ctx context.Context, r *helper.Run, d backends.Draft, spec diskio.AllocateSpec) (method string, err error) {
	did, err := diskio.Allocate(ctx, r.Pacer, d.Content(), spec)
	if err == nil && !did.Kept {
		r.Warn("the file system reserved %s of %s; its space may run out later", quantity.FormatBoth(did.Allocated), quantity.FormatBoth(spec.Allocation))
	}
	return did.Method, err
}
