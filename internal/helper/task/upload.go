package task

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"

	"storaged/internal/backends"
	"storaged/internal/diskio"
	"storaged/internal/format"
	"storaged/internal/helper"
	"storaged/internal/ipc"
	"storaged/internal/operation"
	"storaged/internal/record"
)

// Upload makes the task of an operation.
func Upload(o *operation.Upload) (helper.Task, error) {
	at, err := volume(o, "target", o.Volume)
	if err != nil {
		return helper.Task{}, err
	}
	in, err := contentOf(o, o.Content)
	if err != nil {
		return helper.Task{}, err
	}
	if in.skipped = o.Skipped; in.skipped > 0 && in.unpack != "" {
		return helper.Task{}, record.Errorf(record.Invalid, "--skipped excludes --unpack: what is packed is unpacked from its start")
	}
	in.dir = filepath.Dir(at.Path)
	w := upload{off: o.Offset}
	if w.view, err = viewOf(o, &helper.Volume{Location: at, Access: backends.WriteExclusive}, imageIn(o.As, o.Format), o.Image); err != nil {
		return helper.Task{}, err
	}
	if w.isImage() { // it has the content, whatever it is stored in
		in.format = record.FormatRaw
	}
	w.whole = record.IsImage(in.format)
	if w.beginning, err = beginningOf(o); err != nil {
		return helper.Task{}, err
	}
	if in.skipped > 0 {
		if o.Checksum != "" {
			w.full = in.sum
		}
		in.sum = checksum{} // of a part it would say nothing
	}
	w.content = &content{contentSpec: in, goes: w.at}
	if w.full.algorithm != "" && w.off != in.skipped {
		return helper.Task{}, record.Errorf(record.Invalid, "--checksum is of the whole content, and one that does not begin where %q does cannot be read back: --offset and --skipped must be the same", at.Path)
	}
	return helper.Task{
		Doing:   fmt.Sprintf("upload %s to %q", in.from, at.Path),
		Done:    fmt.Sprintf("uploaded %s to %q", in.from, at.Path),
		Undone:  fmt.Sprintf("what is written of %q already stays so", at.Path),
		Ask:     fmt.Sprintf("the content of %q (%s) will be overwritten", at.Path, length(at.Path)),
		Reads:   in.from.path(),
		Writes:  at.Path,
		ByHand:  spares(at),
		Short:   "the volume is not complete until the content is uploaded again, from where it broke off (--resume) or as a whole",
		Secrets: o.Files,
		Opens:   append(w.opens(), w.content),
		Images:  w.images(1),
		Work:    w.work,
	}, nil
}

type upload struct {
	*content
	view
	off   int64 // bytes, in the volume
	whole bool  // the content is the file of an image, and the volume becomes as long
	// full is the checksum of all the content, when a part of it was uploaded
	// before: it is read back.
	full checksum
	// beginning is the checksum of what was uploaded before, as the sender has it.
	beginning checksum
}

func (w upload) work(ctx context.Context, r *helper.Run) error {
	// A header may become one with what is there already.
	if err := w.read(format.HeadSize - w.off); err != nil {
		return w.left(err)
	}
	if w.isImage() && w.skipped > 0 {
		if _, err := w.checked(ctx, r, true); err != nil {
			return err
		}
	}
	err := w.with(ctx, r, true, func(c diskio.Content) error { return w.into(ctx, r, c) })
	if err != nil && w.touched {
		r.Report.Rollback = string(record.RollbackKept)
	}
	if err == nil && w.full.algorithm != "" {
		r.Report.Rollback = string(record.RollbackNone)
	}
	return err
}

// into writes the content into that of the volume.
func (w upload) into(ctx context.Context, r *helper.Run, c diskio.Content) error {
	to, err := w.admit(c)
	if err != nil {
		return err
	}
	compared := w.comparing()
	r.Plan(append(compared, w.phases(w.bytes)...)...)
	if err := w.compare(ctx, r, to); err != nil {
		return err
	}
	r.Next(len(compared))
	r.Pacer.Skipped(w.skipped)
	err = w.end(ctx, w.off)
	if err == nil {
		err = w.left(w.put(ctx, r, to))
	}
	if err == nil {
		err = w.end(ctx, w.off+r.Report.Bytes)
	}
	if err != nil {
		return err
	}
	if w.full.algorithm != "" {
		r.Next(len(compared) + 1)
		if err := w.check(ctx, r, to); err != nil {
			return w.left(err)
		}
	}
	if err := w.made(r, w.at.Volume); err != nil {
		return err
	}
	if w.off == w.skipped && (w.whole || w.off+r.Report.Bytes == to.off+to.room) {
		r.Knows(func(v *ipc.Item) { v.Checksum, v.ChecksumAs = r.Report.Checksum, w.sums() }) // it is all of the volume
	}
	return nil
}

// left says with a refusal of the content what there is of the volume now, unless that
// says what to do: not all of such are found before the first byte is written.
func (w upload) left(err error) error {
	e, ok := errors.AsType[*ipc.Error](err)
	switch {
	case !ok || e.Hint != "":
	case e.Code == string(record.Mismatch):
		_ = e.WithHint("%q has all of it and is incomplete: upload a content that has the checksum, from its start", w.at.Path)
	case e.Code != string(record.Invalid) && e.Code != string(record.TooLarge):
	case w.touched:
		_ = e.WithHint("%q has the beginning of it and is incomplete: upload a content that is right, from its start", w.at.Path)
	case w.skipped > 0:
		_ = e.WithHint("nothing more was written")
	default:
		_ = e.WithHint("nothing was written")
	}
	return err
}

// end makes the file of an image end there, before its content comes and after.
func (w upload) end(ctx context.Context, size int64) error {
	if !w.whole {
		return nil
	}
	sized, ok := w.at.Volume.(backends.Resizer)
	if !ok {
		return ipc.Errorf(record.Unsupported, "volumes of pool type %q cannot get the length of another image", w.at.Pool.Type)
	}
	w.touched = true
	_, err := sized.Resize(ctx, diskio.NewPacer(), diskio.ResizeSpec{Capacity: size, Shrink: true})
	return err
}

// phases are those of the plan; bytes is the length of the content, -1 while not
// known.
func (w upload) phases(bytes int64) []ipc.PlanPhase {
	phases := []ipc.PlanPhase{transfer("upload", bytes, w.skipped)}
	if w.full.algorithm != "" {
		check := transfer("verify", bytes, w.skipped)
		check.Data = false // its rate is not that of uploads
		phases = append(phases, check)
	}
	return phases
}

// check reads the whole content back, of which this upload moved the rest.
func (w upload) check(ctx context.Context, r *helper.Run, to into) error {
	r.Report.Rollback = string(record.RollbackKept) // unless it is right
	did, err := diskio.Sum(ctx, r.Pacer, to.content, diskio.SumSpec{CRC32C: w.full.algorithm == record.CRC32C, Len: w.off + r.Report.Bytes})
	if err != nil {
		return err
	}
	if err := w.full.judge(r, did.Sum); err != nil {
		return err
	}
	r.Report.Rollback = string(record.RollbackNone)
	return nil
}

// admit refuses, before anything is written, what does not fit, by its length
// or its header.
func (w upload) admit(c diskio.Content) (to into, err error) {
	size, err := c.Size()
	if err != nil {
		return to, err
	}
	to = into{content: c, off: w.off, room: size - w.off, name: w.at.Path}
	there := io.ReaderAt(c)
	if w.whole {
		size, to.room, to.clean = w.off+w.bytes, math.MaxInt64-w.off, true
		there = io.NewSectionReader(c, 0, w.off)
	}
	if err := cmp.Or(w.fits(to), w.checkPacking(w.head, w.off == 0)); err != nil {
		return to, err
	}
	header, err := w.checkHeader(w.over(there, w.off, size))
	if e, ok := errors.AsType[*ipc.Error](err); ok && w.whole && header.Format == record.FormatRaw {
		e.Hint += "; --as raw writes it as what a guest sees, and the image stays one"
	}
	return to, err
}

// otherThan refuses the volume itself as the other end.
func otherThan(f *externalFile, v backends.Volume) error {
	file := diskio.FileOf(v.Content())
	if file == nil {
		return nil
	}
	here, err := f.Stat()
	if err != nil {
		return err
	}
	there, err := file.Stat()
	if err != nil {
		return err
	}
	if os.SameFile(here, there) {
		return ipc.Errorf(record.Invalid, "%q is the volume itself", f.Name())
	}
	return nil
}

// transfer is the phase in which a content is moved; its length may not be
// known.
func transfer(name string, bytes, skipped int64) ipc.PlanPhase {
	if bytes < 0 {
		p := helper.Moving(name, 0)
		p.Bounded = false
		return p
	}
	return helper.Moving(name, bytes+skipped)
}
