package task

import (
	"cmp"
	"context"
	"strconv"

	"storaged/internal/backends"
	"storaged/internal/backends/header"
	"storaged/internal/diskio"
	"storaged/internal/format"
	"storaged/internal/format/qemu"
	"storaged/internal/helper"
	"storaged/internal/ipc"
	"storaged/internal/operation"
	"storaged/internal/record"
)

// view is what a task takes of a volume: the bytes of its file, or, of an image, the
// content that a guest sees.
type view struct {
	at     *helper.Volume
	format string // that it is opened in as an image; "": it is not
	chain  helper.Chain
	secret string // name of the secret that opens it, "" for none
}

// viewOf is a view of a volume, in the format if it is to be opened as an image.
func viewOf(o Tasked, at *helper.Volume, format string, of operation.Image) (view, error) {
	w := view{at: at, format: format}
	if format == "" {
		return w, nil
	}
	if !record.FormatCan(format, record.VerbRead) {
		return w, record.Errorf(record.Unsupported, "volumes in format %q cannot be opened", format)
	}
	var err error
	w.secret = of.Secret
	w.chain, err = chainOf(o, of.Chain)
	return w, err
}

// imageIn is the format if as asks for the content of one in it.
func imageIn(as, format string) string {
	if as == record.AsRaw && record.IsImage(format) {
		return format
	}
	return ""
}

// isImage reports whether the volume is opened as one.
func (w view) isImage() bool { return w.format != "" }

// opens are the volume and what it stands on.
func (w view) opens() []helper.Opening { return append([]helper.Opening{w.at}, w.chain.Openings()...) }

// images is how many processes open it at most, one after the other.
func (w view) images(times int) int {
	if w.isImage() {
		return times
	}
	return 0
}

// disk is how it is opened as an image.
func (w view) disk(writable bool) helper.Disk {
	return helper.Disk{Format: w.format, Chain: w.chain, Secret: w.secret, Writable: writable}
}

// with calls do with the content, which ends with it: what was written is durable
// and the file as it stays when with returns.
func (w view) with(ctx context.Context, r *helper.Run, writable bool, do func(c diskio.Content) error) error {
	if !w.isImage() {
		return do(w.at.Volume.Content())
	}
	d, err := r.Disk(ctx, w.at.Volume, w.disk(writable))
	if err != nil {
		return err
	}
	err = do(d)
	closed := d.Close()
	if !writable { // nothing is lost of what was only read, and what was made of it may have its name by now
		return err
	}
	return cmp.Or(err, closed)
}

// sums is what the checksum of it is of.
func (w view) sums() string {
	if w.isImage() {
		return record.AsRaw
	}
	return record.AsFile
}

// origin is where a checksum of the volume begins, or goes on.
func (w view) origin(r *helper.Run) (helper.Position, error) {
	var below []diskio.Content
	for _, l := range w.chain {
		below = append(below, l.Volume.Volume.Content())
	}
	return r.Sources(w.at.Volume.Content(), below...)
}

// watch begins to watch the files of an image.
func (w view) watch(ctx context.Context, r *helper.Run) (all watches, err error) {
	files := []*helper.Volume{w.at}
	for _, l := range w.chain {
		files = append(files, l.Volume)
	}
	for _, v := range files {
		one, err := watch(ctx, r, v.Volume.Content(), strconv.Quote(v.Path))
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, nil
}

// watches are the files that a content is read of.
type watches []*sourceWatch

// ended is sourceWatch's.
func (all watches) ended(err error) error {
	for _, one := range all {
		err = one.ended(err)
	}
	return err
}

// checked says what the tables of an image are like; those of some formats cannot be
// checked. again says that another has written to it, who may have been killed: what
// that has allocated and not used is given back.
func (w view) checked(ctx context.Context, r *helper.Run, again bool) (qemu.Checked, error) {
	repair := qemu.RepairNothing
	if again {
		repair = qemu.RepairLeaks
	}
	found, err := r.CheckDisk(ctx, w.at.Volume, w.disk(true), repair)
	if record.CodeOf(err) == record.Unsupported && found == (qemu.Checked{}) {
		return found, nil
	}
	if err == nil && found.Bad() {
		err = ipc.Errorf(record.WrongState, "the image %q is damaged: %d clusters are corrupt; nothing was written", w.at.Path, found.Errors+found.Corruptions).
			WithHint("storagedctl vol verify %s --check --repair all repairs what it can, and may lose content: make a copy of the file before", w.at.Path)
	}
	return found, err
}

// header is what the header of the image says.
func (w view) header() (format.Image, error) {
	c := w.at.Volume.Content()
	size, err := c.Size()
	if err != nil {
		return format.Image{}, err
	}
	return format.InspectAs(c, size, w.format)
}

// reread tells with the description of an image what its header says now.
func reread(r *helper.Run, v backends.Volume, format string) (backends.VolumeInfo, error) {
	info, err := header.Inspect(v, format)
	found := helper.Item(info)
	r.Knows(func(v *ipc.Item) {
		like(v, found)
		v.Format = format
	})
	return info, err
}
