package task

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"

	"storaged/internal/backends"
	"storaged/internal/diskio"
	"storaged/internal/format"
	"storaged/internal/helper"
	"storaged/internal/ipc"
	"storaged/internal/operation"
	"storaged/internal/quantity"
	"storaged/internal/record"
)

// createFrom is a new volume with a content from beyond the pools.
func createFrom(o *operation.Create, at helper.Location) (helper.Task, error) {
	in, err := contentOf(o, o.Content)
	if err != nil {
		return helper.Task{}, err
	}
	in.dir = filepath.Dir(at.Path)
	w := creation{
		content: &content{contentSpec: in}, capacity: -1,
		draft: &helper.Draft{Location: at, Rights: rightsOf(o.Rights), As: backends.NewVolume{Format: in.format, Promise: bound(o.Allocation, 0), Options: ofPool(in.format, o.Options)}},
	}
	if o.Capacity != 0 {
		w.capacity = o.Capacity
	}
	w.written = o.Options[operation.Preallocation] == "full"
	return helper.Task{
		Name: o.Task().Name, Resumes: o.Resume,
		Doing:  fmt.Sprintf("make %q of %s", at.Path, in.from),
		Done:   fmt.Sprintf("made %q of %s", at.Path, in.from),
		Undone: afterCancel(o.Keep, at),
		Keeps:  o.Keep,
		Makes:  at.Path,
		Reads:  in.from.path(),
		Writes: at.Path,
		Opens:  []helper.Opening{w.content, helper.Begun{Draft: w.draft}},
		Work:   w.work,
	}, nil
}

type creation struct {
	*content
	draft    *helper.Draft
	capacity int64 // bytes; -1 is that of the content
	written  bool  // what is reserved is written too
}

func (w creation) work(ctx context.Context, r *helper.Run) error {
	header, err := w.admit()
	if err != nil {
		return err
	}
	as := &w.draft.As
	as.Size, as.Promise = w.capacity, min(as.Promise, max(w.capacity, 0)) // what is more than the capacity is all of it
	r.Plan(helper.Moving("allocate", as.Promise), transfer("upload", w.bytes, 0), helper.Commit())
	r.Next(0)
	if !record.Plain(w.kind()) {
		r.Knows(func(v *ipc.Item) { v.Format = w.kind() })
	}
	return r.Create(ctx, w.draft, func() error {
		err := w.fill(ctx, r)
		if err == nil {
			err = w.made(r, w.draft.Draft)
		}
		if err == nil && header.Backing != "" && w.among == nil && !record.Plain(w.kind()) {
			r.Warn("the image names \"%s\" as its backing file: whoever opens the volume opens that too", record.Escape(header.Backing))
		}
		return err
	})
}

// admit refuses, before anything is made, what is no content of the volume, or does
// not fit.
func (w *creation) admit() (header format.Image, err error) {
	if err = w.read(format.HeadSize); err == nil {
		err = w.checkPacking(w.head, true)
	}
	if err == nil {
		header, err = w.checkHeader(w.over(bytes.NewReader(nil), 0, max(w.capacity, w.bytes)))
	}
	if err != nil {
		return header, convertible(header, err)
	}
	if w.capacity < 0 {
		w.capacity = w.bytes
	}
	if w.capacity >= 0 && w.bytes > w.capacity {
		return header, ipc.Errorf(record.TooLarge, "the content has %s, and %q is to have %s", quantity.FormatBoth(w.bytes), w.draft.Path, quantity.FormatBoth(w.capacity))
	}
	return header, nil
}

// convertible says beside of a content that is in another format than the volume is to
// be how it comes into that.
func convertible(header format.Image, err error) error {
	if e, ok := errors.AsType[*ipc.Error](err); ok && e.Code == string(record.Invalid) && header.Format != "" && header.Problem == "" {
		e.Hint += fmt.Sprintf("; --from-format %s converts it", header.Format)
	}
	return err
}

func (w creation) fill(ctx context.Context, r *helper.Run) error {
	d := w.draft.Draft
	to := into{content: d.Content(), room: w.capacity, clean: true, name: w.draft.Path}
	if w.capacity < 0 {
		to.room = math.MaxInt64
	} else if _, err := reserveIn(ctx, r, d, diskio.AllocateSpec{Capacity: w.capacity, Allocation: w.draft.As.Promise, Written: w.written}); err != nil {
		return err
	}
	r.Next(1)
	if err := w.put(ctx, r, to); err != nil || w.capacity >= 0 {
		return err
	}
	return diskio.FileOf(d.Content()).Truncate(r.Report.Bytes) // it may end in a hole
}
