package task

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"storaged/internal/backends"
	"storaged/internal/diskio"
	"storaged/internal/helper"
	"storaged/internal/ipc"
	"storaged/internal/operation"
	"storaged/internal/quantity"
	"storaged/internal/record"
)

// Convert makes the task of an operation that copies what a guest sees of a volume.
func Convert(o *operation.Clone) (helper.Task, error) {
	from, to, err := ends(o, o.Volume, o.Target)
	if err != nil {
		return helper.Task{}, err
	}
	w := convert{}
	w.sparse, w.size = o.Sparse || unmapped[o.Format], o.Capacity
	if w.view, err = viewOf(o, &helper.Volume{Location: from}, imageIn(record.AsRaw, o.Format), o.Image); err != nil {
		return helper.Task{}, err
	}
	if w.newImage, err = newImageOf(newImage{draft: &helper.Draft{Location: to, Rights: rightsOf(o.Rights)}, options: o.Options, secret: o.NewSecret}, o.To, o.Promise); err != nil {
		return helper.Task{}, err
	}
	return helper.Task{
		Name: o.Task().Name, Resumes: o.Resume,
		Doing:   fmt.Sprintf("convert %q to %q", from.Path, to.Path),
		Done:    fmt.Sprintf("converted %q to %q", from.Path, to.Path),
		Undone:  afterCancel(o.Keep, to) + fmt.Sprintf("; %q is as it was", from.Path),
		Keeps:   o.Keep,
		Makes:   to.Path,
		Reads:   from.Path,
		Writes:  to.Path,
		Opens:   append(w.opens(), helper.Begun{Draft: w.draft}),
		Images:  imagesOfConversion,
		Secrets: o.Files,
		Work:    w.work,
	}, nil
}

// imagesOfConversion are what is read, what is made, and that again to be written.
const imagesOfConversion = 3

type convert struct {
	view // the source
	conversion
}

func (w convert) work(ctx context.Context, r *helper.Run) (err error) {
	if w.position, err = w.origin(r); err != nil {
		return err
	}
	if w.kept, err = w.watch(ctx, r); err != nil {
		return err
	}
	attributes, err := diskio.AttributesOf(w.at.Volume.Content())
	if err != nil {
		return err
	}
	if w.isImage() {
		w.source = &helper.Source{Stored: w.at.Volume, Disk: w.disk(false)}
		if err := w.warnOfBitmaps(r); err != nil {
			return err
		}
	}
	return w.with(ctx, r, false, func(source diskio.Content) error {
		if err := w.plan(r, source); err != nil {
			return err
		}
		r.Next(0)
		return r.Create(ctx, w.draft, func() error {
			err := w.fill(ctx, r)
			if err == nil {
				give(r, w.draft.Draft.Content(), attributes.OfCopy(), w.draft.Path)
			}
			return err
		})
	})
}

// warnOfBitmaps warns of what tells of an image what has changed in it since a backup: a
// copy of the content has none of that.
func (w convert) warnOfBitmaps(r *helper.Run) error {
	h, err := w.header()
	if err == nil && slices.Contains(h.Features, "bitmaps") {
		r.Warn("%q has bitmaps of what has changed since a backup (qemu-img bitmap): the copy has none of them", w.at.Path)
	}
	return err
}

// unmapped are the formats of which QEMU does not tell what is not allocated: their
// zeros have to be looked for.
var unmapped = map[string]bool{"vhdx": true}

// conversion writes a content into a new volume in any format.
type conversion struct {
	newImage
	from     diskio.Content  // that is read
	source   *helper.Source  // that it is of, nil if it is of no image
	position helper.Position // of its files, for checkpoints
	kept     watches         // those files
	size     int64           // bytes that the new volume shall have, 0: as the content
	sparse   bool            // data that is zeros is left out, where nothing is reserved for it
}

// plan plans the conversion of a content, and what comes before it.
func (w *conversion) plan(r *helper.Run, content diskio.Content, before ...ipc.PlanPhase) error {
	size, err := content.Size()
	if err != nil {
		return err
	}
	if w.size != 0 && w.size < size {
		return ipc.Errorf(record.Invalid, "the content has %s, and %q is to have %s", quantity.FormatBoth(size), w.draft.Path, quantity.FormatBoth(w.size))
	}
	w.from, w.capacity = content, operation.CapacityIn(w.draft.As.Format, max(size, w.size))
	w.reserved = min(w.reserved, w.capacity)
	if w.plain() {
		w.draft.As.Size, w.draft.As.Promise = w.capacity, w.reserved
	}
	w.sparse = w.sparse && w.reserved == 0
	r.Plan(append(before, helper.Moving("copy", size), helper.Commit())...)
	return nil
}

// fill makes the draft the content, or what is missing of it.
func (w conversion) fill(ctx context.Context, r *helper.Run) error {
	if w.plain() {
		return w.fillPlain(ctx, r)
	}
	at, err := w.prepare(ctx, r)
	if err != nil {
		return err
	}
	disk := w.newImage.disk()
	disk.Source = w.pulled()
	to, err := r.Disk(ctx, w.draft.Draft, disk)
	if err != nil {
		return err
	}
	spec := diskio.CopySpec{Dst: to, Src: w.from, Clean: w.clean(), Sparse: w.sparse, Checkpoints: at}
	if to.Pulls() {
		spec.Pull = to.Pull
	}
	if !spec.Clean { // what is behind the end of the source is made zeros too
		spec.Size = w.capacity
	}
	did, err := diskio.Copy(ctx, r.Pacer, spec)
	err = cmp.Or(w.kept.ended(err), to.Close())
	copied(r, did)
	if err != nil {
		return err
	}
	return w.describe(r)
}

// pulled is the source where the process that writes the new image can copy from it by
// itself: all that is data, into a qcow2 as long as it is.
func (w conversion) pulled() *helper.Source {
	size, err := w.from.Size()
	if err != nil || w.source == nil || w.draft.As.Format != "qcow2" || size != w.capacity || w.sparse || w.compressed() {
		return nil
	}
	w.source.Capacity = size
	return w.source
}

// fillPlain makes it a raw volume.
func (w conversion) fillPlain(ctx context.Context, r *helper.Run) error {
	to := w.draft.Draft.Content()
	spec := diskio.CopySpec{Dst: to, Src: w.from, Size: w.capacity, Clean: w.draft.Draft.Clean(), Sparse: w.sparse, Allocation: w.reserved}
	spec.Checkpoints = r.Checkpoints(w.position, to, r.ID)
	if w.written() && r.Earlier == nil {
		if _, err := reserveIn(ctx, r, w.draft.Draft, diskio.AllocateSpec{Capacity: w.capacity, Allocation: w.reserved, Written: true}); err != nil {
			return err
		}
	}
	did, err := diskio.Copy(ctx, r.Pacer, spec)
	copied(r, did)
	r.Knows(func(v *ipc.Item) { v.Format = w.draft.As.Format })
	return w.kept.ended(err)
}

// resumable are the formats in which an image that is being written to is a correct
// one at any flush, and can be repaired after one: those can be gone on with.
var resumable = map[string]bool{"qcow2": true, "luks": true}

// prepare makes the empty image, or takes up what an earlier helper had written.
func (w conversion) prepare(ctx context.Context, r *helper.Run) (diskio.Checkpoints, error) {
	format, d := w.draft.As.Format, w.draft.Draft
	err := w.takeUp(ctx, r)
	if err == nil && r.Earlier == nil {
		_, err = w.make(ctx, r)
	}
	if err != nil || !resumable[format] {
		return diskio.Checkpoints{}, err
	}
	at := w.position
	at.Grows = true
	return r.Checkpoints(at, d.Content(), r.ID), nil
}

// takeUp repairs what an earlier helper had written. Where the power failed that can be
// impossible, and then it begins anew.
func (w conversion) takeUp(ctx context.Context, r *helper.Run) error {
	if r.Earlier == nil {
		return nil
	}
	err := r.Step(ctx, func() error { return r.RepairDisk(ctx, w.draft.Draft, w.newImage.disk()) })
	if errors.Is(err, helper.ErrBeyondRepair) {
		r.Anew("the unfinished %q: %v", w.draft.Path, err)
		return diskio.FileOf(w.draft.Draft.Content()).Truncate(0)
	}
	return err
}

// bareFile is a file that is no volume, to be opened as an image.
type bareFile struct {
	content diskio.Content
	path    string
}

func (n bareFile) Content() diskio.Content { return n.content }

// Info has where it is, and its length.
func (n bareFile) Info() (backends.VolumeInfo, error) {
	size, err := n.content.Size()
	return backends.VolumeInfo{Path: n.path, Size: size}, err
}
