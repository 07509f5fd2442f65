package task

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"

	"storaged/internal/diskio"
	"storaged/internal/format"
	"storaged/internal/helper"
	"storaged/internal/ipc"
	"storaged/internal/operation"
	"storaged/internal/quantity"
	"storaged/internal/record"
)

// convertFrom is a new volume in another format than a content from beyond the pools.
func convertFrom(o *operation.Create, at helper.Location) (helper.Task, error) {
	in, err := contentOf(o, o.Content)
	if err != nil {
		return helper.Task{}, err
	}
	w := intake{content: &content{contentSpec: in}, format: o.FromFormat, opener: o.FromSecret, asked: o.Checksum != ""}
	if w.format == "" {
		w.format, w.judged, w.content.format = record.FormatRaw, true, record.FormatRaw
	}
	w.size, w.sparse = o.Capacity, in.zeros || unmapped[o.FromFormat]
	w.draft, w.options, w.secret = &helper.Draft{Location: at, Rights: rightsOf(o.Rights)}, o.Options, o.Chain.Secret
	if w.newImage, err = newImageOf(w.newImage, o.Format, o.Allocation); err != nil {
		return helper.Task{}, err
	}
	if !record.Plain(w.format) && (in.from.form != "" || in.unpack != "") {
		return helper.Task{}, record.Errorf(record.Unsupported, "an image in format %s is read here and there: it can be converted only from a file, and as a whole", w.format)
	}
	return helper.Task{
		Name: o.Task().Name, Resumes: o.Resume,
		Doing:  fmt.Sprintf("convert %s to %q", in.from, at.Path),
		Done:   fmt.Sprintf("converted %s to %q", in.from, at.Path),
		Undone: afterCancel(o.Keep, at),
		Keeps:  o.Keep,
		Makes:  at.Path,
		Reads:  in.from.path(),
		Writes: at.Path,
		Opens:  []helper.Opening{w.content, helper.Begun{Draft: w.draft}},
		Images: imagesOfConversion, Secrets: o.Files,
		Work: w.work,
	}, nil
}

// intake is a conversion of a content from beyond the pools.
type intake struct {
	*content
	conversion
	format string // of the content
	opener string // name of the secret that opens it, "" for none
	judged bool   // nobody has said that it is a disk's bytes: it must not begin like an image
	asked  bool   // somebody wants a checksum
}

func (w intake) work(ctx context.Context, r *helper.Run) error {
	if record.Plain(w.format) {
		return w.disk(ctx, r)
	}
	return w.convert(ctx, r)
}

// convert converts an image, which must need no other file.
func (w intake) convert(ctx context.Context, r *helper.Run) error {
	if err := w.read(headBytes); err != nil {
		return err
	}
	if err := w.checkImage(); err != nil {
		return err
	}
	w.source = &helper.Source{
		Stored: bareFile{diskio.FileContent(w.file.File), w.content.from.path()}, Disk: helper.Disk{Format: w.format, Secret: w.opener},
	}
	source, err := r.Disk(ctx, w.source.Stored, w.source.Disk)
	if err != nil {
		return err
	}
	defer source.Close() // it was only read
	if w.content.kept != nil {
		w.conversion.kept = watches{w.content.kept}
	}
	var before []ipc.PlanPhase
	if w.asked {
		before = []ipc.PlanPhase{helper.Moving("verify", w.content.bytes)}
	}
	if err := w.plan(r, source, before...); err != nil {
		return err
	}
	if err := w.verify(ctx, r); err != nil {
		return err
	}
	r.Next(len(before))
	return r.Create(ctx, w.draft, func() error { return w.conversion.fill(ctx, r) })
}

// verify compares the checksum of the file with the one that it is to have.
func (w intake) verify(ctx context.Context, r *helper.Run) error {
	if !w.asked {
		return nil
	}
	r.Next(0)
	did, err := diskio.Sum(ctx, r.Pacer, diskio.FileContent(w.file.File), diskio.SumSpec{CRC32C: w.sum.algorithm == record.CRC32C})
	if err = w.conversion.kept.ended(err); err != nil {
		return err
	}
	return w.sum.judge(r, did.Sum)
}

// checkImage refuses what is no image in the format that was declared, and one that
// names other files: those are nobody's whom we know.
func (w intake) checkImage() error {
	end, err := w.file.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	h, err := format.Inspect(w.file, end)
	switch {
	case err != nil:
		return err
	case end != w.content.bytes:
		return ipc.Errorf(record.Invalid, "%s has %s, of which %s were to be taken: an image is converted as a whole", w.from, quantity.FormatBoth(end), quantity.FormatBoth(w.content.bytes))
	case h.Format != w.format:
		return ipc.Errorf(record.Invalid, "the content begins like one in format %s, and was to be one in format %s; nothing was written", h.Format, w.format).
			WithHint("--from-format %s, if that is what it is; raw takes it as a disk's bytes", h.Format)
	case h.Problem != "":
		return badImage(w.format, h.Problem, h.Cut > 0)
	case h.Backing != "" || len(h.Data) > 0:
		return ipc.Errorf(record.Unsupported, "the image names %q, which does not come with it; nothing was written", record.Escape(append(h.Data, h.Backing)[0])).
			WithHint("put both into pools, refresh those, and clone the volume")
	}
	return nil
}

// disk makes an image of a content that is a disk's bytes.
func (w intake) disk(ctx context.Context, r *helper.Run) error {
	if err := cmp.Or(w.read(format.HeadSize), w.judge()); err != nil {
		return err
	}
	w.capacity = cmp.Or(w.size, operation.CapacityIn(w.draft.As.Format, max(w.content.bytes, 0)))
	switch {
	case w.capacity == 0:
		return ipc.Errorf(record.Invalid, "nobody knows how long the content is: %q needs a capacity; nothing was written", w.draft.Path).WithHint("--capacity SIZE")
	case w.content.bytes > w.capacity:
		return ipc.Errorf(record.TooLarge, "the content has %s, and %q is to have %s", quantity.FormatBoth(w.content.bytes), w.draft.Path, quantity.FormatBoth(w.capacity))
	}
	w.reserved = min(w.reserved, w.capacity)
	phases := []ipc.PlanPhase{helper.Single("make"), transfer("upload", w.content.bytes, 0)}
	if !w.clean() {
		phases = append(phases, helper.Moving("zero", w.capacity-max(w.content.bytes, 0)))
	}
	r.Plan(append(phases, helper.Commit())...)
	r.Next(0)
	return r.Create(ctx, w.draft, func() error { return w.put(ctx, r) })
}

func (w intake) put(ctx context.Context, r *helper.Run) error {
	if _, err := w.make(ctx, r); err != nil {
		return err
	}
	r.Next(1)
	to, err := r.Disk(ctx, w.draft.Draft, w.newImage.disk())
	if err != nil {
		return err
	}
	err = w.content.put(ctx, r, into{content: to, room: w.capacity, clean: w.clean(), name: w.draft.Path})
	if err == nil && !w.clean() {
		err = w.rest(ctx, r, to)
	}
	if err = cmp.Or(err, to.Close()); err != nil {
		return err
	}
	return w.describe(r)
}

// rest makes what the content has not covered zeros.
func (w intake) rest(ctx context.Context, r *helper.Run, to diskio.Content) error {
	r.Next(2)
	if w.content.bytes < 0 {
		r.Pacer.Skipped(r.Report.Bytes)
	}
	return writeZeros(ctx, r, to, r.Report.Bytes, w.capacity)
}

// judge refuses a content that begins like an image, of which nobody has said that it
// is to be taken for a disk's bytes.
func (w intake) judge() error {
	if !w.judged {
		return nil
	}
	if err := w.checkPacking(w.head, true); err != nil {
		return err
	}
	h, err := w.checkHeader(w.over(bytes.NewReader(nil), 0, max(w.capacity, w.content.bytes)))
	if err == nil || h.Format == "" || record.Plain(h.Format) {
		return err
	}
	return ipc.Errorf(record.Invalid, "the content begins like an image in format %s, and nobody has said what it is; nothing was written", h.Format).
		WithHint("--from-format %s converts it, with --from-secret if it is encrypted; --as-format raw takes its bytes for a disk's", h.Format)
}
