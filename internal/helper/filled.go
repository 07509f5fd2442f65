package helper

import (
	"context"
	"fmt"
	"math"

	"storaged/internal/backends"
	"storaged/internal/diskio"
	"storaged/internal/image"
	"storaged/internal/operation"
	"storaged/internal/quantity"
	"storaged/internal/record"
)

// buildFilled is a new volume with a content from outside.
func buildFilled(o *operation.Create, at place) (Task, error) {
	in, err := intakeOf(o, o.Content)
	if err != nil {
		return Task{}, err
	}
	w := filled{at: at, in: in, capacity: -1, allocation: orZero(o.Allocation)}
	if o.Capacity != 0 {
		w.capacity = o.Capacity
	}
	return Task{
		name: o.Task().Name, resumes: o.Resume,
		doing:   fmt.Sprintf("make %q of %s", at.path, in.from),
		done:    fmt.Sprintf("made %q of %s", at.path, in.from),
		undone:  left(o.Keep, at),
		keeps:   o.Keep,
		makes:   at.path,
		reads:   in.from.path(),
		writes:  at.path,
		changes: []pool{at.in()},
		work:    w.work,
	}, nil
}

type filled struct {
	at         place
	in         intake
	capacity   int64 // bytes; -1 is that of the content
	allocation int64 // bytes; what is more than the capacity is all of it
}

func (w filled) work(ctx context.Context, r *run) error {
	c, err := w.in.open(ctx, r, image.HeaderSize)
	if err != nil {
		return err
	}
	defer c.close()
	if err := firstOf(w.in.checkPacking(c.head, true), c.lock()); err != nil {
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
		return failed(record.TooLarge, "the content has %s, and %q is to have %s", quantity.FormatBoth(c.bytes), w.at.path, quantity.FormatBoth(w.capacity))
	}
	w.allocation = min(w.allocation, max(w.capacity, 0))
	r.plan(moving("allocate", w.allocation), transfer("upload", c.bytes, 0), single("commit"))
	r.next(0)
	err = r.create(ctx, w.at, 2, func(d backends.Draft) error {
		if err := w.fill(ctx, r, c, d); err != nil {
			return err
		}
		return c.inspect(d)
	})
	if err == nil {
		c.made(r)
	}
	if err == nil && header.Backing != "" && !record.Plain(r.report.Volume.Format) {
		r.warn("the image names \"%s\" as its backing file: whoever opens the volume opens that too", record.Escape(header.Backing))
	}
	return err
}

func (w filled) fill(ctx context.Context, r *run, c *content, d backends.Draft) error {
	to := into{file: d.File(), room: w.capacity, clean: true, name: w.at.path}
	if w.capacity < 0 {
		to.room = math.MaxInt64
	} else if _, err := reserveIn(ctx, r, d, diskio.AllocateSpec{Capacity: w.capacity, Allocation: w.allocation}); err != nil {
		return err
	}
	r.next(1)
	if err := c.put(ctx, r, to); err != nil || w.capacity >= 0 {
		return err
	}
	return d.File().Truncate(r.report.Bytes) // it may end in a hole
}
