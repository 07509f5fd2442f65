package task

import (
	"cmp"
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

// Clone makes the task of an operation.
func Clone(o *operation.Clone) (helper.Task, error) {
	from, to, err := ends(o, o.Volume, o.Target)
	if err != nil {
		return helper.Task{}, err
	}
	source := &helper.Volume{Location: from}
	w := clone{
		source: source, draft: &helper.Draft{Location: to, Rights: rightsOf(o.Rights), Like: source, As: backends.NewVolume{Format: o.Format, Promise: bound(o.Promise, 0), Options: ofPool(o.Format, o.Options)}},
		size: o.Capacity, reflink: diskio.Reflink(o.Reflink), sparse: o.Sparse, among: o.Among,
	}
	if w.sparse && (w.draft.As.Promise > 0 || w.reflink == diskio.ReflinkAlways) {
		return helper.Task{}, record.Errorf(record.Invalid, "--sparse excludes --allocation and --reflink always: what is left out has no blocks")
	}
	return helper.Task{
		Name: o.Task().Name, Resumes: o.Resume,
		Doing:  fmt.Sprintf("clone %q to %q", from.Path, to.Path),
		Done:   fmt.Sprintf("cloned %q to %q", from.Path, to.Path),
		Undone: afterCancel(o.Keep, to) + fmt.Sprintf("; %q is as it was", from.Path),
		Keeps:  o.Keep,
		Makes:  to.Path,
		Reads:  from.Path,
		Writes: to.Path,
		ByHand: copies(from, to, true),
		Opens:  []helper.Opening{w.source, helper.Begun{Draft: w.draft}},
		Work:   w.work,
	}, nil
}

type clone struct {
	source  *helper.Volume
	draft   *helper.Draft     // of the same format
	held    *helper.Footprint // the source, when it was opened
	size    int64             // 0 is the source's
	reflink diskio.Reflink
	sparse  bool
	among   []string // directories of what an image may stand on
}

func (w clone) work(ctx context.Context, r *helper.Run) error {
	source := w.source.Volume
	if err := (copying{w.source.Path, w.draft.Path, w.draft.As.Format, true, w.among}).admit(source); err != nil {
		return err
	}
	size, err := sizeOf(source)
	if err != nil {
		return err
	}
	if w.size != 0 && w.size < size {
		return ipc.Errorf(record.Invalid, "cannot clone %q, which has %s, to a size of %s", w.source.Path, quantity.FormatBoth(size), quantity.FormatBoth(w.size))
	}
	w.draft.As.Size = max(size, w.size)
	if w.held, err = r.Held(source.Content()); err != nil {
		return err
	}
	attributes, err := diskio.AttributesOf(source.Content())
	if err != nil {
		return err
	}
	if shared, err := w.shares(ctx, r); shared || err != nil {
		return w.share(ctx, r, err, attributes)
	}
	r.Plan(growing(helper.Moving("copy", size)), helper.Commit())
	r.Next(0)
	return r.Create(ctx, w.draft, func() error {
		err := shareGrowth(ctx, r, source, func(ctx context.Context) error { return w.copy(ctx, r) })
		if err == nil {
			give(r, w.draft.Draft.Content(), attributes.OfCopy(), w.draft.Path)
		}
		return err
	})
}

// shares reports whether the copy can be made at once, by the driver. That it cannot is an error
// where nothing else is wanted.
func (w clone) shares(ctx context.Context, r *helper.Run) (bool, error) {
	if !byDriver(w.draft.Pool) || w.reflink == diskio.ReflinkNever || w.sparse {
		return false, nil
	}
	err := w.draft.ShareStorage(ctx, r)
	if code := record.CodeOf(err); code == record.Unsupported && w.reflink != diskio.ReflinkAlways {
		return false, nil
	}
	return err == nil, err
}

// share has the driver make it, and makes it larger if it is to be.
func (w clone) share(ctx context.Context, r *helper.Run, err error, attributes diskio.Attributes) error {
	if err != nil {
		return err
	}
	size := w.draft.As.Size
	r.Plan(helper.Moving("share", size), helper.Commit())
	r.Next(0)
	return r.Create(ctx, w.draft, func() error {
		err := snapped(ctx, r, size)
		info, ierr := w.draft.Draft.Info()
		if err = cmp.Or(err, ierr); err == nil && info.Size < size {
			err = w.enlarge(ctx, r, size)
		}
		if err == nil {
			give(r, w.draft.Draft.Content(), attributes.OfCopy(), w.draft.Path)
		}
		return err
	})
}

// enlarge gives the draft a size.
func (w clone) enlarge(ctx context.Context, r *helper.Run, size int64) error {
	draft, ok := w.draft.Draft.(backends.Resizer)
	if !ok {
		return ipc.Errorf(record.Unsupported, "%q cannot be larger than %q, whose storage it shares", w.draft.Path, w.source.Path)
	}
	_, err := draft.Resize(ctx, r.Pacer, diskio.ResizeSpec{Capacity: size})
	return err
}

// copy moves the content into the new volume.
func (w clone) copy(ctx context.Context, r *helper.Run) error {
	to := w.draft.Draft.Content()
	did, err := diskio.Copy(ctx, r.Pacer, diskio.CopySpec{
		Dst: to, Src: w.source.Volume.Content(), Size: w.size, Reflink: w.reflink, Clean: w.draft.Draft.Clean(),
		Allocation: w.draft.As.Promise, Reserved: !w.sparse, Sparse: w.sparse,
		Checkpoints: r.Checkpoints(helper.Position{Source: w.held}, to, r.ID),
	})
	copied(r, did)
	return err
}

// copied reports what a copy did, and warns of what it has less than its source.
func copied(r *helper.Run, did diskio.CopyStats) {
	r.Report.Method, r.Report.Bytes = did.Method, did.Bytes
	if did.Allocated > 0 && !did.Kept {
		r.Warn("the file system has given the copy only %s of blocks; its space may run out later", quantity.FormatBytes(did.Allocated))
	}
	if did.CopiesOnWrite {
		r.Warn("the source is overwritten in place (chattr +C), and where the copy lies it cannot be: what is written to it goes elsewhere each time")
	}
}
