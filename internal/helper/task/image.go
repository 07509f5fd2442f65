package task

import (
	"context"
	"maps"
	"math"

	"storaged/internal/backends"
	"storaged/internal/backends/header"
	"storaged/internal/diskio"
	"storaged/internal/helper"
	"storaged/internal/ipc"
	"storaged/internal/operation"
	"storaged/internal/quantity"
	"storaged/internal/record"
)

// newImage is a volume that is made in a format other than raw, and what an image is
// made with.
type newImage struct {
	draft    *helper.Draft
	options  map[string]string // as operation.CheckOptions gives them
	capacity int64             // bytes that a guest sees
	reserved int64             // bytes that shall have storage; as much as the capacity is all of the file
	backing  *helper.Layer     // nil: none
	secret   string            // name of the one that is to open it, "" for none
}

// newImageOf reads the options of a volume that is to be made by hand too.
func newImageOf(n newImage, format string, reserved *int64) (newImage, error) {
	if err := operation.CheckEncryption(format, n.secret, n.options); err != nil {
		return n, err
	}
	n.reserved = bound(reserved, 0)
	var err error
	n.options, err = operation.CheckOptions(format, n.options, n.reserved == math.MaxInt64)
	if operation.ReservesAll(n.options) {
		n.reserved = math.MaxInt64
	}
	n.draft.As = backends.NewVolume{Format: format, Size: -1, Options: ofPool(format, n.options)}
	return n, err
}

// ofPool are the options that only the type of the pool has.
func ofPool(format string, options map[string]string) map[string]string {
	c, _ := record.CreationOf(format)
	return c.OfPool(options)
}

// plain reports whether its file has the bytes that a guest sees.
func (n newImage) plain() bool { return record.Plain(n.draft.As.Format) }

// clean reports whether it reads as zeros when it is made.
func (n newImage) clean() bool { return operation.BeginsAsZeros(n.draft.As.Format) }

// disk is how it is opened to be written.
func (n newImage) disk() helper.Disk {
	return helper.Disk{Format: n.draft.As.Format, Secret: n.secret, Writable: true, Draft: true, Compress: n.compressed()}
}

// written reports whether what is reserved is written too.
func (n newImage) written() bool { return n.options[operation.Preallocation] == "full" }

// compressed reports whether its content is.
func (n newImage) compressed() bool {
	method := n.options[operation.Compression]
	return method != "" && method != "off"
}

// make writes an empty image into the draft, and reserves what is to be.
func (n newImage) make(ctx context.Context, r *helper.Run) (method string, err error) {
	blank := helper.Blank{Format: n.draft.As.Format, Capacity: n.capacity, Options: n.qemu(), Secret: n.secret}
	if n.backing != nil {
		blank.BackingName, blank.BackingFormat = n.backing.Path, n.backing.Format
	}
	if err := r.Step(ctx, func() error { return r.MakeDisk(ctx, n.draft.Draft, blank) }); err != nil {
		return "", err
	}
	size, err := sizeOf(n.draft.Draft)
	if err != nil || n.reserved == 0 {
		return diskio.MethodSparse, err
	}
	spec := diskio.AllocateSpec{Capacity: max(size, n.reserved), Allocation: n.reserved, Written: n.written()}
	if n.reserved >= n.capacity { // its tables too
		spec.Capacity, spec.Allocation = size, size
	}
	return reserveIn(ctx, r, n.draft.Draft, spec)
}

// qemu are the options as QEMU has them, where those of ours say more.
func (n newImage) qemu() map[string]string {
	all := maps.Clone(n.options)
	switch all[operation.Preallocation] {
	case "falloc", "full": // which we do, with progress
		if all[operation.Preallocation] = "metadata"; n.draft.As.Format == operation.Encrypted[0] { // which has no tables
			all[operation.Preallocation] = "off"
		}
	}
	return all
}

// describe reports what was made, whose header must say so.
func (n newImage) describe(r *helper.Run) error {
	format := n.draft.As.Format
	info, err := header.Inspect(n.draft.Draft, format)
	if err != nil {
		return err
	}
	if info.Problem != "" || info.Capacity != n.capacity {
		return ipc.Errorf(record.Internal, "the new %q is not what was to be made: its header says %s, not %s; %s", n.draft.Path,
			quantity.FormatBoth(info.Capacity), quantity.FormatBoth(n.capacity), info.Problem)
	}
	if n.backing == nil && len(info.References) > 0 { // who wrote it has read what others wrote
		return ipc.Errorf(record.Internal, "the new %q is not what was to be made: its header names %q", n.draft.Path, record.Escape(info.References[0].Name))
	}
	found := helper.Item(info)
	r.Knows(func(v *ipc.Item) {
		v.Format, v.Capacity, v.Backing, v.References, v.Options = format, n.capacity, found.Backing, found.References, found.Options
	})
	return nil
}

// writeZeros writes zeros from a byte of a content on, up to another, durably.
func writeZeros(ctx context.Context, r *helper.Run, c diskio.Content, off, end int64) error {
	for off < end {
		n, err := r.Pacer.Admit(ctx, min(end-off, int64(len(zeros))))
		if err != nil {
			return err
		}
		_, err = c.WriteAt(zeros[:n], off)
		r.Pacer.Finished(diskio.Moved{Done: n, Durable: n, Written: n})
		if err != nil {
			return err
		}
		off += n
	}
	return c.Flush()
}
