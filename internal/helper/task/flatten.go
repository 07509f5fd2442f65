package task

import (
	"cmp"
	"context"
	"fmt"

	"storaged/internal/backends"
	"storaged/internal/diskio"
	"storaged/internal/helper"
	"storaged/internal/ipc"
	"storaged/internal/nbd"
	"storaged/internal/operation"
)

// Flatten makes the task of an operation.
func Flatten(o *operation.Flatten) (helper.Task, error) {
	at, err := volume(o, "target", o.Volume)
	if err != nil {
		return helper.Task{}, err
	}
	chain, err := chainOf(o, o.Chain)
	if err != nil {
		return helper.Task{}, err
	}
	w := flattening{overlay{
		at:   &helper.Volume{Location: at, Access: backends.WriteExclusive},
		disk: helper.Disk{Format: o.Format, Chain: chain, Secret: o.Chain.Secret, Writable: true}, resumes: o.Resume,
	}}
	return helper.Task{
		Name: o.Task().Name, Resumes: o.Resume, Secrets: o.Files, Images: 1,
		Doing:  fmt.Sprintf("flatten %q", at.Path),
		Done:   fmt.Sprintf("flattened %q", at.Path),
		Idle:   "it stands on nothing",
		Undone: fmt.Sprintf("%q stands on what it stood on; its content is the same", at.Path),
		Reads:  at.Path,
		Writes: at.Path,
		Opens:  append([]helper.Opening{w.at}, chain.Openings()...),
		Work:   w.work,
	}, nil
}

// overlay is an image that stands on others, and is to stand on something else.
type overlay struct {
	at      *helper.Volume
	disk    helper.Disk
	resumes bool // an earlier helper of the job had begun
}

// begin makes sure that the image stands on what it is said to, and has what is
// become of it reported in the end. done says that it stands on what it is to, since an
// earlier helper of the job had come to the end, but for its report.
func (w overlay) begin(ctx context.Context, r *helper.Run, onto helper.Chain) (done bool, err error) {
	if err = w.disk.Sound(w.at.Volume); err != nil && w.resumes {
		detached := w.disk
		detached.Chain = onto
		done = detached.Sound(w.at.Volume) == nil
	}
	if err != nil && !done {
		return false, err
	}
	w.reports(r)
	if !done {
		return false, nil
	}
	r.Plan(helper.Single(detaching))
	r.Next(0)
	r.Report.Method = diskio.MethodCopy
	return true, r.Step(ctx, r.Seal)
}

// reports has what is become of the image reported in the end.
func (w overlay) reports(r *helper.Run) {
	r.Knows(func(it *ipc.Item) {
		if is, err := described(w.at.Volume, w.disk.Format); err == nil {
			like(it, is)
		}
	})
}

// detach names what the image stands on from now on, when all that it lacks is in it.
func (w overlay) detach(ctx context.Context, r *helper.Run, name, format string) error {
	return r.Step(ctx, func() error {
		if err := r.Seal(); err != nil {
			return err
		}
		return r.RebaseDisk(ctx, w.at.Volume, w.disk, name, format)
	})
}

// detaching is the phase of that.
const detaching = "detach"

type flattening struct{ overlay }

func (w flattening) work(ctx context.Context, r *helper.Run) error {
	if done, err := w.begin(ctx, r, nil); done || err != nil {
		return err
	}
	info, err := described(w.at.Volume, w.disk.Format)
	if err != nil {
		return err
	}
	if len(w.disk.Chain) == 0 {
		r.Plan(helper.Single(detaching))
		r.Next(0)
		r.Report.Method = diskio.MethodNone
		return nil
	}
	r.Plan(helper.Moving("copy", info.Capacity), helper.Single(detaching))
	r.Next(0)
	if err := w.copy(ctx, r); err != nil {
		return err
	}
	r.Next(1)
	return w.detach(ctx, r, "", "")
}

// copy reads what the image lacks and writes it into the image.
func (w flattening) copy(ctx context.Context, r *helper.Run) error {
	image, err := r.Disk(ctx, w.at.Volume, w.disk)
	if err != nil {
		return err
	}
	size, err := image.Size()
	if err == nil {
		_, err = diskio.Place(ctx, r.Pacer, diskio.PlaceSpec{
			Dst: image, Src: lacking{image}, Len: size, Clean: true, DetectZeros: true, Keep: true,
		})
	}
	r.Report.Method, r.Report.Bytes = diskio.MethodCopy, r.Pacer.Counts().Written
	return cmp.Or(err, image.Close())
}

// lacking is the content of an image of which it has nothing itself but what is a hole
// here. Where nobody has anything there will be zeros when it stands on nothing.
type lacking struct{ *helper.Image }

// layersAsked is how many parts of a map are asked for at a time.
const layersAsked = 64

// Extents are data where a layer below has some.
func (l lacking) Extents(list []diskio.Extent, off, end int64) (n int, err error) {
	var depths [layersAsked]nbd.Depth
	some, err := l.Depths(depths[:min(len(list), len(depths))], off, end)
	for _, d := range depths[:some] {
		if n == len(list) || err != nil {
			break
		}
		if topmost(d) || d.Layer == 0 {
			list[n] = diskio.Extent{Off: d.Off, Len: d.Len, Kind: diskio.Hole}
			n++
			continue
		}
		from := n
		more, wrong := l.Image.Extents(list[n:], d.Off, d.Off+d.Len)
		n, err = n+more, wrong
		for i := from; i < n; i++ {
			if list[i].Kind != diskio.Data {
				list[i].Kind = diskio.Hole
			}
		}
		if n > from && list[n-1].End() != d.Off+d.Len { // there was no room for all
			break
		}
	}
	return n, err
}

// topmost reports whether the topmost layer has a part itself.
func topmost(d nbd.Depth) bool { return d.Layer == 1 }
