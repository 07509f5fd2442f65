package task

import (
	"cmp"
	"context"
	"fmt"
	"math"

	"storaged/internal/backends"
	"storaged/internal/diskio"
	"storaged/internal/helper"
	"storaged/internal/image"
	"storaged/internal/operation"
	"storaged/internal/quantity"
	"storaged/internal/record"
)

// buildFilled is a new volume with a content from external.
func buildFilled(o *operation.Create, at helper.Location) (helper.Task, error) {
	in, err := contentOf(o, o.Content)
	if err != nil {
		return helper.Task{}, err
	}
	w := filled{at: at, in: in, capacity: -1, allocation: orZero(o.Allocation)}
	if o.Capacity != 0 {
		w.capacity = o.Capacity
	}
	return helper.Task{
		Name: o.Task().Name, Resumes: o.Resume,
		Doing:   fmt.Sprintf("make %q of %s", at.Path, in.from),
		Done:    fmt.Sprintf("made %q of %s", at.Path, in.from),
		Undone:  left(o.Keep, at),
		Keeps:   o.Keep,
		Makes:   at.Path,
		Reads:   in.from.path(),
		Writes:  at.Path,
		Changes: []helper.Pool{at.In()},
		Work:    w.work,
	}, nil
}

type filled struct {
	at         helper.Location
	in         contentSpec
	capacity   int64 // bytes; -1 is that of the content
	allocation int64 // bytes; what is more than the capacity is all of it
}

func (w filled) work(ctx context.Context, r *helper.Run) error {
	c, err := w.in.open(ctx, r, image.HeaderSize)
	if err != nil {
		return err
	}
	defer c.close()
	if err := cmp.Or(w.in.checkPacking(c.head, true), c.lock()); err != nil {
		return err
	}
	header, err := w.in.checkHeader(c.head)
	if err != nil {
		return err
	}
	if w.capacity < 0 {
		w.capacity = c.bytes
	}
	if w.capacity >= 0 && c.bytes > w.capacity {
		return helper.Failed(record.TooLarge, "the content has %s, and %q is to have %s", quantity.FormatBoth(c.bytes), w.at.Path, quantity.FormatBoth(w.capacity))
	}
	w.allocation = min(w.allocation, max(w.capacity, 0))
	r.Plan(helper.Moving("allocate", w.allocation), transfer("upload", c.bytes, 0), helper.Single("commit"))
	r.Next(0)
	err = r.Create(ctx, w.at, backends.NewVolume{Size: w.capacity, Format: w.in.format, Promise: w.allocation}, 2, func(d backends.Draft) error {
		if err := w.fill(ctx, r, c, d); err != nil {
			return err
		}
		return c.inspect(d)
	})
	if err == nil {
		c.made(r)
	}
	if err == nil && header.Backing != "" && !record.Plain(r.Report.Volume.Format) {
		r.Warn("the image names \"%s\" as its backing file: whoever opens the volume opens that too", record.Escape(header.Backing))
	}
	return err
}

func (w filled) fill(ctx context.Context, r *helper.Run, c *content, d backends.Draft) error {
	to := into{content: diskio.FileContent(d.File()), room: w.capacity, clean: true, name: w.at.Path}
	if w.capacity < 0 {
		to.room = math.MaxInt64
	} else if _, err := reserveIn(ctx, r, d, diskio.AllocateSpec{Capacity: w.capacity, Allocation: w.allocation}); err != nil {
		return err
	}
	r.Next(1)
	if err := c.put(ctx, r, to); err != nil || w.capacity >= 0 {
		return err
	}
	return d.File().Truncate(r.Report.Bytes) // it may end in a hole
}
