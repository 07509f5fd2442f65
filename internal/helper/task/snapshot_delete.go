package task

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"storaged/internal/crash"
	"storaged/internal/diskio"
	"storaged/internal/helper"
	"storaged/internal/ipc"
	"storaged/internal/nbd"
	"storaged/internal/operation"
)

// SnapshotDelete makes the task of an operation.
func SnapshotDelete(o *operation.SnapshotDelete) (helper.Task, error) {
	at, snapshot, err := snapshotOf(o, o.OnSnapshot)
	if err != nil {
		return helper.Task{}, err
	}
	w := merging{gone: &helper.Volume{Location: snapshot, Leaves: true, Gone: true}}
	opens, err := w.stands(o)
	if err != nil {
		return helper.Task{}, err
	}
	return helper.Task{
		Name: o.Task().Name, Resumes: o.Resume, Secrets: o.Files, Images: len(w.above), Room: roomBySnapshots,
		Doing:  fmt.Sprintf("delete snapshot %q of %q", o.Snapshot, at.Path),
		Done:   fmt.Sprintf("deleted snapshot %q of %q", o.Snapshot, at.Path),
		Undone: fmt.Sprintf("%q is not deleted; what stands on it has the content that it had", snapshot.Path),
		Ask:    fmt.Sprintf("snapshot %q of %q will be deleted", o.Snapshot, at.Path),
		Reads:  snapshot.Path,
		Writes: w.writes(),
		ByHand: sparesBut([]helper.Location{snapshot}, w.aboveAt()),
		Opens:  append(opens, w.gone),
		Work:   w.work,
	}, nil
}

// merging deletes a snapshot, when all that stands on it stands on what it stood on.
type merging struct {
	gone  *helper.Volume // the snapshot
	above []overlay      // what stands on it, of its volume
	below helper.Chain   // what it stands on
}

// stands finds what stands on the snapshot, and what it stands on.
func (w *merging) stands(o *operation.SnapshotDelete) (opens []helper.Opening, err error) {
	if w.below, err = chainOf(o, o.Chain); err != nil {
		return nil, err
	}
	above, err := chainOf(o, operation.Chain{Layers: o.Above})
	if err != nil {
		return nil, err
	}
	chain := append(helper.Chain{{Volume: w.gone, Format: o.Format, Secret: o.Chain.Secret}}, w.below...)
	for _, l := range above {
		l.Volume.Leaves = true // its file is written, with nobody else at it
		w.above = append(w.above, overlay{at: l.Volume, disk: helper.Disk{Format: l.Format, Chain: chain, Secret: l.Secret, Writable: true}})
	}
	return append(above.Openings(), w.below.Openings()...), nil
}

func (w merging) aboveAt() (all []helper.Location) {
	for _, o := range w.above {
		all = append(all, o.at.Location)
	}
	return all
}

// writes is the path that is written.
func (w merging) writes() string {
	if len(w.above) > 0 {
		return w.above[0].at.Path
	}
	return w.gone.Path
}

// methodMerge is how a snapshot is deleted that others stand on.
const methodMerge = "merge"

func (w merging) work(ctx context.Context, r *helper.Run) error {
	if w.gone.Volume == nil {
		return w.done(ctx, r)
	}
	var phases []ipc.PlanPhase
	for _, o := range w.above {
		info, err := described(o.at.Volume, o.disk.Format)
		if err != nil {
			return err
		}
		phases = append(phases, helper.Moving("merge", info.Capacity), helper.Single(detaching))
		r.Report.Method = methodMerge
	}
	r.Plan(append(phases, helper.Single("delete"))...)
	for i, o := range w.above {
		r.Next(2 * i)
		err := w.lift(ctx, r, o, 2*i+1)
		if is, bad := described(o.at.Volume, o.disk.Format); bad == nil { // it may stand on something else
			r.Report.Items = append(r.Report.Items, is)
		}
		if err != nil {
			return err
		}
	}
	r.Next(len(phases))
	return r.Step(ctx, func() error { return remove(r, w.gone) })
}

// done finds that an earlier helper has come to the end, but for its report.
func (w merging) done(ctx context.Context, r *helper.Run) error {
	r.Plan(helper.Single("delete"))
	r.Next(0)
	for _, o := range w.above {
		r.Report.Method = methodMerge
		if err := w.lifted(o).Sound(o.at.Volume); err != nil {
			return err
		}
		is, err := described(o.at.Volume, o.disk.Format)
		if err != nil {
			return err
		}
		r.Report.Items = append(r.Report.Items, is)
	}
	return r.Step(ctx, r.Seal)
}

// lifted is how an image is opened that stands on what the snapshot stood on.
func (w merging) lifted(o overlay) helper.Disk {
	d := o.disk
	d.Chain = w.below
	return d
}

// lift has an image stand on what the snapshot stands on, when it has all that it lacks
// of the snapshot. That has no point of no return: its content is the same either way.
func (w merging) lift(ctx context.Context, r *helper.Run, o overlay, next int) error {
	if err := o.disk.Sound(o.at.Volume); err != nil {
		if w.lifted(o).Sound(o.at.Volume) == nil {
			return nil // it does so already
		}
		return err
	}
	if err := w.copy(ctx, r, o); err != nil {
		return err
	}
	crash.At(crash.Merged)
	r.Next(next)
	name, format := "", ""
	if parent := w.parent(); parent != nil {
		name, format = parent.Path, parent.Format
	}
	err := r.Step(ctx, func() error { return r.RebaseDisk(ctx, o.at.Volume, o.disk, name, format) })
	crash.At(crash.Lifted)
	return err
}

// parent is what the snapshot stands on; nil: nothing.
func (w merging) parent() *helper.Layer {
	for i, l := range w.below {
		if !l.Data {
			return &w.below[i]
		}
	}
	return nil
}

// copy writes into an image what it lacks of the snapshot. Of zeros that hide what lies
// below nothing is moved.
func (w merging) copy(ctx context.Context, r *helper.Run, o overlay) error {
	image, err := r.Disk(ctx, o.at.Volume, o.disk)
	if err != nil {
		return err
	}
	return cmp.Or(w.fill(ctx, r, o, image), image.Close())
}

func (w merging) fill(ctx context.Context, r *helper.Run, o overlay, image *helper.Image) error {
	size, err := image.Size()
	if err != nil {
		return err
	}
	hides := int64(0)
	if parent := w.parent(); parent != nil {
		is, err := described(parent.Volume.Volume, parent.Format)
		if err != nil {
			return err
		}
		hides = min(size, is.Capacity)
	}
	from := beneath{Image: image}
	if is, err := described(o.at.Volume, o.disk.Format); err != nil {
		return err
	} else if slices.Contains(is.Options, withoutZeros) {
		from.dense = hides
	}
	if err := from.room(ctx, o.at.Pool, size); err != nil {
		return err
	}
	if from.dense == 0 {
		if err := from.hide(ctx, r, hides); err != nil {
			return err
		}
	}
	_, err = diskio.Place(ctx, r.Pacer, diskio.PlaceSpec{Dst: image, Src: from, Len: size, Clean: true, DetectZeros: hides == 0, Keep: true})
	r.Report.Bytes = r.Pacer.Counts().Written
	return err
}

// withoutZeros is the option of images that have no clusters marked as zeros.
const withoutZeros = "compat=0.10"

// beneath is the content of an image of which what the image below it has is known to
// be data, and the rest is a hole.
type beneath struct {
	*helper.Image
	dense int64 // up to there zeros are data too: the image can have them in no other way
}

// second is the layer below the topmost.
const second = 2

// Extents gives what is data of one part that one layer has.
func (b beneath) Extents(list []diskio.Extent, off, end int64) (n int, err error) {
	var part [1]nbd.Depth
	if _, err := b.Depths(part[:], off, end); err != nil {
		return 0, err
	}
	end = min(end, part[0].Off+part[0].Len)
	switch {
	case part[0].Layer != second:
		list[0] = diskio.Extent{Off: off, Len: end - off, Kind: diskio.Hole}
		return 1, nil
	case off < b.dense:
		list[0] = diskio.Extent{Off: off, Len: min(end, b.dense) - off, Kind: diskio.Data}
		return 1, nil
	}
	n, err = b.Image.Extents(list, off, end)
	for i := range list[:n] {
		if list[i].Kind != diskio.Data {
			list[i].Kind = diskio.Hole
		}
	}
	return n, err
}

// extentsAsked is how many extents are asked for at a time.
const extentsAsked = 64

// each visits what the layer below has, up to an end.
func (b beneath) each(ctx context.Context, end int64, visit func(diskio.Extent) error) error {
	var list [extentsAsked]diskio.Extent
	for off := int64(0); off < end; {
		var part [1]nbd.Depth
		if _, err := b.Depths(part[:], off, end); err != nil {
			return err
		}
		until := min(end, part[0].Off+part[0].Len)
		for off < until {
			if part[0].Layer != second {
				off = until
				continue
			}
			n, err := b.Image.Extents(list[:], off, until)
			if err != nil {
				return err
			}
			for _, x := range list[:n] {
				if err := context.Cause(ctx); err != nil {
					return err
				}
				if err := visit(x); err != nil {
					return err
				}
			}
			off = list[n-1].End()
		}
	}
	return nil
}

// room refuses, before anything is written, what there is no room for.
func (b beneath) room(ctx context.Context, p *helper.Pool, size int64) error {
	const unit = 64 << 10 // as large as most clusters, of which a part needs a whole one
	need, counted := int64(0), int64(0)
	err := b.each(ctx, size, func(x diskio.Extent) error {
		if x.Kind == diskio.Data || x.Off < b.dense {
			from, to := max(counted, x.Off/unit*unit), (x.End()+unit-1)/unit*unit
			need, counted = need+max(0, to-from), to
		}
		return nil
	})
	if err != nil {
		return err
	}
	if need == 0 {
		return nil
	}
	return roomIn(ctx, p, need+tables(need))
}

// tables is what an image may need for so many bytes more beside those.
func tables(n int64) int64 { return n/2048 + 256<<10 }

// hide makes zeros of what the layer below has as zeros, up to an end: otherwise what
// lies further below would be seen there.
func (b beneath) hide(ctx context.Context, r *helper.Run, end int64) error {
	const piece = 1 << 30 // bytes that are made zeros at a time
	var zeros []diskio.Extent
	err := b.each(ctx, end, func(x diskio.Extent) error {
		if x.Kind != diskio.Data {
			zeros = append(zeros, x)
		}
		return nil
	})
	for _, x := range zeros {
		for off := x.Off; off < x.End() && err == nil; off += piece {
			err = r.Step(ctx, func() error { return b.Zero(off, min(piece, x.End()-off), true) })
		}
	}
	return err
}
