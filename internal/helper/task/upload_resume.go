package task

import (
	"cmp"
	"context"

	"storaged/internal/diskio"
	"storaged/internal/helper"
	"storaged/internal/ipc"
	"storaged/internal/operation"
	"storaged/internal/record"
)

// An upload that goes on where another broke off must be of the same content.
// What is in place of it is compared, before anything is written, with what the
// file has there, or with the checksum of what the sender of a stream has passed
// over.

// beginningOf reads the checksum of what was uploaded before.
func beginningOf(o *operation.Upload) (sum checksum, err error) {
	if o.Beginning == "" {
		return sum, nil
	}
	sum.algorithm, sum.want, err = record.ParseContentChecksum(o.Beginning)
	if err != nil || sum.want == "" || o.Offset != o.Skipped || o.Skipped == 0 {
		return sum, record.Errorf(record.Invalid, "--beginning is a checksum with its digits, of the bytes that are --skipped, which begin with the volume")
	}
	return sum, nil
}

// comparable reports whether there is something to compare what is in place with.
func (w upload) comparable() bool {
	return w.skipped > 0 && w.off == w.skipped && (w.from.form == "" || w.beginning.want != "")
}

// comparing are the phases that compare.
func (w upload) comparing() []ipc.PlanPhase {
	if !w.comparable() {
		return nil
	}
	phases := []ipc.PlanPhase{helper.Moving("compare", w.skipped)}
	if w.from.form == "" {
		phases = append(phases, helper.Moving("compare with the file", w.skipped))
	}
	for i := range phases {
		phases[i].Data = false // its rate is not that of uploads
	}
	return phases
}

// compare refuses a content that does not begin with what is in place.
func (w upload) compare(ctx context.Context, r *helper.Run, to into) error {
	if !w.comparable() {
		if w.skipped > 0 && w.full.want == "" {
			r.Warn("nothing could tell whether the content begins with what was uploaded of it before")
		}
		return nil
	}
	want := w.beginning.want
	r.Next(0)
	there, err := w.prefix(ctx, r, to.content)
	if err == nil && w.from.form == "" {
		r.Next(1)
		want, err = w.prefix(ctx, r, diskio.FileContent(w.file.File))
	}
	if err != nil || there == want {
		return err
	}
	return ipc.Errorf(record.Changed, "%s does not begin with what is in place of %q: it is another content, or was changed; nothing was written", w.from, w.at.Path).
		WithHint("go on with the content that was begun, or upload this one from its start")
}

// prefix is the checksum of what was uploaded before.
func (w upload) prefix(ctx context.Context, r *helper.Run, c diskio.Content) (string, error) {
	algorithm := cmp.Or(w.beginning.algorithm, record.CRC32C)
	did, err := diskio.Sum(ctx, r.Pacer, c, diskio.SumSpec{CRC32C: algorithm == record.CRC32C, Len: w.skipped})
	return record.ContentChecksum(algorithm, did.Sum), err
}
