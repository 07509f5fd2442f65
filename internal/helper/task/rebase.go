package task

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"storaged/internal/backends"
	"storaged/internal/diskio"
	"storaged/internal/helper"
	"storaged/internal/ipc"
	"storaged/internal/nbd"
	"storaged/internal/operation"
	"storaged/internal/quantity"
	"storaged/internal/record"
)

// Rebase makes the task of an operation.
func Rebase(o *operation.Rebase) (helper.Task, error) {
	at, err := volume(o, "target", o.Volume)
	if err != nil {
		return helper.Task{}, err
	}
	chain, err := chainOf(o, o.Chain)
	onto, wrong := chainOf(o, o.Onto)
	if err = cmp.Or(err, wrong, needed(o, "onto", len(o.Onto.Layers) > 0)); err != nil {
		return helper.Task{}, err
	}
	w := rebasing{overlay{
		at:   &helper.Volume{Location: at, Access: backends.WriteExclusive},
		disk: helper.Disk{Format: o.Format, Chain: chain, Secret: o.Chain.Secret, Writable: true}, resumes: o.Resume,
	}, onto}
	opens := append([]helper.Opening{w.at}, chain.Openings()...)
	return helper.Task{
		Name: o.Task().Name, Resumes: o.Resume, Secrets: o.Files, Images: 2,
		Doing:  fmt.Sprintf("rebase %q to %q", at.Path, onto[0].Path),
		Done:   fmt.Sprintf("rebased %q to %q", at.Path, onto[0].Path),
		Undone: fmt.Sprintf("%q stands on what it stood on; its content is the same", at.Path),
		Reads:  at.Path,
		Writes: at.Path,
		Opens:  append(opens, onto.Openings()...),
		Work:   w.how(o.Unsafe),
	}, nil
}

// rebasing has an image stand on another one.
type rebasing struct {
	overlay
	onto helper.Chain // what it is to stand on, and what that stands on
}

// how it is done.
func (w rebasing) how(unsafe bool) func(context.Context, *helper.Run) error {
	if unsafe {
		return w.replace
	}
	return w.work
}

// replace puts another volume in the place of what the image stood on, which is lost. Of
// both contents nobody knows anything here.
func (w rebasing) replace(ctx context.Context, r *helper.Run) error {
	r.Plan(helper.Single(detaching))
	r.Next(0)
	r.Report.Method = diskio.MethodNone
	w.disk.Alone = true
	w.reports(r)
	is, err := described(w.at.Volume, w.disk.Format)
	if err != nil {
		return err
	}
	has, err := described(w.onto[0].Volume.Volume, w.onto[0].Format)
	switch {
	case err != nil:
		return err
	case is.Backing == "":
		return ipc.Errorf(record.WrongState, "%q stands on nothing; nothing was changed", w.at.Path)
	case has.Capacity < is.Capacity:
		return ipc.Errorf(record.Invalid, "%q has %s, less than the %s of %q; nothing was changed", w.onto[0].Path,
			quantity.FormatBoth(has.Capacity), quantity.FormatBoth(is.Capacity), w.at.Path)
	}
	if err := w.detach(ctx, r, w.onto[0].Path, w.onto[0].Format); err != nil {
		return err
	}
	return helper.Disk{Format: w.disk.Format, Chain: w.onto}.Sound(w.at.Volume)
}

func (w rebasing) work(ctx context.Context, r *helper.Run) error {
	if done, err := w.begin(ctx, r, w.onto); done || err != nil {
		return err
	}
	info, err := described(w.at.Volume, w.disk.Format)
	if err != nil {
		return err
	}
	r.Plan(helper.Moving("compare", info.Capacity), helper.Single(detaching))
	r.Next(0)
	if err := w.copy(ctx, r); err != nil {
		return err
	}
	r.Next(1)
	return w.detach(ctx, r, w.onto[0].Path, w.onto[0].Format)
}

// copy writes into the image what it has from the old backing, and the new one has
// otherwise.
func (w rebasing) copy(ctx context.Context, r *helper.Run) (err error) {
	top := w.onto[0]
	backing := top.Volume.Volume.Content()
	if top.Format != record.FormatRaw {
		below, bad := r.Disk(ctx, top.Volume.Volume, helper.Disk{Format: top.Format, Chain: w.onto[1:], Secret: top.Secret})
		if bad != nil {
			return bad
		}
		defer func() { err = cmp.Or(err, below.Close()) }()
		backing = below
	}
	length, err := backing.Size()
	if err != nil {
		return err
	}
	image, err := r.Disk(ctx, w.at.Volume, w.disk)
	if err != nil {
		return err
	}
	on := below{Content: backing, length: length}
	size, err := image.Size()
	if err == nil {
		_, err = diskio.Place(ctx, r.Pacer, diskio.PlaceSpec{Dst: changed{image, on}, Src: different{image, on}, Len: size, Clean: true, Keep: true})
	}
	r.Report.Method, r.Report.Bytes = diskio.MethodCopy, r.Pacer.Counts().Written
	return cmp.Or(err, image.Close())
}

// below is a backing as the image above it sees it: behind its end there are zeros.
type below struct {
	diskio.Content
	length int64
}

// read reads a part.
func (b below) read(p []byte, off int64) error {
	n := max(0, min(int64(len(p)), b.length-off))
	clear(p[n:])
	if n == 0 {
		return nil
	}
	got, err := b.ReadAt(p[:n], off)
	if errors.Is(err, io.EOF) && int64(got) == n {
		err = nil
	}
	return err
}

// data reports whether there may be data at an offset, and up to where that holds.
func (b below) data(off, end int64) (data bool, until int64, err error) {
	if off >= b.length {
		return false, end, nil
	}
	return dataAt(b.Content, off, min(end, b.length))
}

func dataAt(c diskio.Content, off, end int64) (data bool, until int64, err error) {
	var one [1]diskio.Extent
	if _, err := c.Extents(one[:], off, end); err != nil {
		return false, end, err
	}
	return one[0].Kind == diskio.Data, one[0].End(), nil
}

// different is the content of an image of which there is nothing to do where it is a
// hole here: the image has it itself, or both what it stands on and what it is to
// stand on are zeros.
type different struct {
	*helper.Image
	on below
}

// Extents gives one at a time.
func (d different) Extents(list []diskio.Extent, off, end int64) (n int, err error) {
	var depth [1]nbd.Depth
	if _, err := d.Depths(depth[:], off, end); err != nil {
		return 0, err
	}
	end = min(end, depth[0].Off+depth[0].Len)
	list[0] = diskio.Extent{Off: off, Len: end - off, Kind: diskio.Hole}
	if topmost(depth[0]) {
		return 1, nil
	}
	before, until, err := dataAt(d.Image, off, end)
	if err != nil {
		return 0, err
	}
	after, until2, err := d.on.data(off, until)
	if err != nil {
		return 0, err
	}
	list[0].Len = until2 - off
	if before || after {
		list[0].Kind = diskio.Data
	}
	return 1, nil
}

// changed is an image to which only what its new backing has otherwise is written.
type changed struct {
	*helper.Image
	on below
}

// buffers are for what backings have.
var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// WriteAt compares block by block.
func (c changed) WriteAt(p []byte, off int64) (int, error) {
	b := buffers.Get().(*bytes.Buffer)
	defer buffers.Put(b)
	b.Reset()
	b.Grow(len(p))
	has := b.AvailableBuffer()[:len(p)]
	if err := c.on.read(has, off); err != nil {
		return 0, fmt.Errorf("the new backing: %w", err)
	}
	const block = 64 << 10 // as large as most clusters
	for at := 0; at < len(p); {
		n := min(len(p)-at, int(block-(off+int64(at))%block))
		if !bytes.Equal(p[at:at+n], has[at:at+n]) {
			if _, err := c.Image.WriteAt(p[at:at+n], off+int64(at)); err != nil {
				return at, err
			}
		}
		at += n
	}
	return len(p), nil
}
