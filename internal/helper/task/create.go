package task

import (
	"context"
	"fmt"
	"os"

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
	switch {
	case o.From != "" && len(o.Chain.Layers) > 0:
		return helper.Task{}, record.Errorf(record.Unsupported, "a volume that stands on another is made empty: --source excludes --layer")
	case o.From != "" && o.Chain.Secret != "", o.FromFormat != "" && !(record.Plain(o.FromFormat) && record.Plain(o.Format)):
		return convertFrom(o, at)
	case o.FromFormat != "": // the bytes as they are
		o.AsFormat = o.Format
		fallthrough
	case o.From != "":
		return createFrom(o, at)
	}
	if err := needed(o, "capacity", o.Capacity != 0); err != nil {
		return helper.Task{}, err
	}
	a, err := allocationOf(o, at)
	if err != nil {
		return helper.Task{}, err
	}
	return helper.Task{
		Name: o.Task().Name, Resumes: o.Resume,
		Doing:   fmt.Sprintf("allocate %q", at.Path),
		Done:    fmt.Sprintf("allocated %q", at.Path),
		Undone:  afterCancel(o.Keep, at),
		Keeps:   o.Keep,
		Makes:   at.Path,
		Writes:  at.Path,
		Opens:   append(a.layers.Openings(), helper.Begun{Draft: a.draft}),
		Images:  a.images(),
		Secrets: o.Files,
		Work:    a.work,
	}, nil
}

// images is how many images are opened, or made.
func (n newImage) images() int {
	if n.plain() {
		return 0
	}
	return 1
}

// allocationOf is what is to be made, of which all is reserved unless somebody says
// otherwise, or it is an image.
func allocationOf(o *operation.Create, at helper.Location) (a allocation, err error) {
	reserved := o.Allocation
	if reserved == nil && record.Plain(o.Format) && len(ofPool(o.Format, o.Options)) == 0 {
		reserved = &o.Capacity
	}
	n := newImage{draft: &helper.Draft{Location: at, Rights: rightsOf(o.Rights)}, options: o.Options, secret: o.Chain.Secret}
	if a.newImage, err = newImageOf(n, o.Format, reserved); err != nil {
		return a, err
	}
	a.capacity, a.reserved = o.Capacity, min(a.reserved, o.Capacity)
	if a.plain() {
		a.draft.As.Size, a.draft.As.Promise = o.Capacity, a.reserved
	}
	if a.layers, err = chainOf(o, o.Chain); err == nil && len(a.layers) > 0 {
		a.backing = &a.layers[0]
	}
	return a, err
}

// rightsOf are those that a new volume or directory is to have. That its mode is one was
// checked. A label means something only where the kernel has SELinux.
func rightsOf(r operation.Rights) diskio.Rights {
	mode, _ := r.ModeBits()
	given := diskio.Rights{Owner: r.Owner, Group: r.Group, Mode: mode}
	if _, err := os.Stat(selinux); err == nil {
		given.Label = r.Label
	}
	return given
}

// selinux is there where the kernel has SELinux, and it is in use.
const selinux = "/sys/fs/selinux/enforce"

type allocation struct {
	newImage
	layers helper.Chain // what it is to stand on
}

func (a allocation) work(ctx context.Context, r *helper.Run) error {
	r.Plan(helper.Moving("allocate", a.reserved), helper.Commit())
	r.Next(0)
	if err := a.stands(); err != nil {
		return err
	}
	return r.Create(ctx, a.draft, func() (err error) {
		r.Report.Bytes = a.reserved
		if !a.plain() {
			if r.Report.Method, err = a.make(ctx, r); err == nil {
				err = a.describe(r)
			}
			if len(a.layers) > 0 {
				r.Report.Method = methodOverlay
			}
			return err
		}
		r.Knows(func(v *ipc.Item) { v.Format = a.draft.As.Format })
		spec := diskio.AllocateSpec{Capacity: a.capacity, Allocation: a.reserved, Written: a.written()}
		spec.Keep = r.Checkpoints(helper.Position{}, a.draft.Draft.Content(), r.ID)
		r.Report.Method, err = reserveIn(ctx, r, a.draft.Draft, spec)
		return err
	})
}

// stands refuses to put an image on one that nobody could read through it.
func (a allocation) stands() error {
	if a.backing == nil {
		return nil
	}
	return a.backing.Intact()
}

// reserveIn gives a draft its size and the space that is reserved for it.
func reserveIn(ctx context.Context, r *helper.Run, d backends.Draft, spec diskio.AllocateSpec) (method string, err error) {
	spec.Clean = d.Clean()
	did, err := diskio.Allocate(ctx, r.Pacer, d.Content(), spec)
	if err == nil && !did.Kept {
		r.Warn("the file system reserved %s of %s; its space may run out later", quantity.FormatBoth(did.Allocated), quantity.FormatBoth(spec.Allocation))
	}
	return did.Method, err
}
