package helper

import (
	"cmp"
	"context"

	"storaged/internal/format/qemu"
)

// RebaseDisk changes what the header of an image names as what it stands on: the file
// of that name, which is an image in that format; "" is nothing. It is not open as an
// image meanwhile. That the content stays the same is for the task to make sure. A cancel
// does not end it.
func (r *Run) RebaseDisk(ctx context.Context, s Stored, d Disk, name, format string) error {
	top, drop, err := d.layer(r, s)
	defer drop()
	if err != nil {
		return err
	}
	ctx, done := r.Completing(ctx)
	defer done()
	return cmp.Or(qemu.Rebase(ctx, top, name, format, qemu.Child{Lock: r.lock}), s.Content().Flush())
}
