package service

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"storaged/internal/quantity"
	"storaged/internal/record"
	"storaged/internal/store"
)

func checkFormat(field, format string) error {
	if format == "" || slices.Contains(record.Formats, format) {
		return nil
	}
	return record.Errorf(record.Invalid, "%s is %.40q, not one of %s", field, format, list(record.Formats, 20))
}

// UploadVolume writes a content into a volume.
func (s *Service) UploadVolume(ctx context.Context, sub Submit, pool, volume string, r VolumeUpload) (Started, error) {
	if err := checkUpload(&r); err != nil {
		return Started{}, err
	}
	if r.Continues != "" {
		j, err := s.jobs.Job(r.Continues)
		if err != nil {
			return Started{}, err
		}
		r.Continues = j.ID
	}
	return s.resolve(ctx, sub, r.JobOptions, func(tx *store.Tx) (work, error) {
		if r.Create != nil {
			return filledWork(tx, pool, r)
		}
		p, v, err := settledVolume(tx, sub, pool, volume)
		if err != nil {
			return work{}, err
		}
		w := contentWork(volumeWork(p, record.VolumeUpload, v.Name), r.Data)
		w.Format, w.Capacity = v.Format, v.Capacity
		w.Offset, w.Length, w.Checksum, w.AsFormat, w.DetectZeros = r.Offset, r.Length, r.Checksum, r.AsFormat, r.DetectZeros
		w.Beginning = r.Beginning
		if r.Continues != "" {
			if err := w.proceed(tx, sub, r.Continues, v); err != nil {
				return work{}, err
			}
			if err := unfinished(v, w); err != nil {
				return work{}, err
			}
		}
		return w, uploadable(v, w)
	})
}

func checkUpload(r *VolumeUpload) error {
	if err := checkContent(r.Offset, r.Checksum); err != nil {
		return err
	}
	if r.Length != nil && *r.Length == 0 && r.Continues == "" {
		return record.Errorf(record.Invalid, "the content is empty: there is nothing to write")
	}
	if err := checkBeginning(r); err != nil {
		return err
	}
	if err := checkFormat("as_format", r.AsFormat); err != nil || r.Create == nil {
		return err
	}
	if err := checkFormat("format", r.Create.Format); err != nil {
		return err
	}
	switch c := r.Create; {
	case r.Offset != 0 || r.Continues != "":
		return record.Errorf(record.Invalid, "a new volume is made of a whole content")
	case c.Capacity < 0:
		return record.Errorf(record.Invalid, "capacity must not be negative: %d", c.Capacity)
	case c.Capacity > 0 && !record.Plain(cmp.Or(r.AsFormat, c.Format, record.FormatRaw)):
		return record.Errorf(record.Invalid, "an image in format %s has its capacity in its header, and is put as it is", cmp.Or(r.AsFormat, c.Format)).
			WithHint("leave the size out")
	case c.Allocation != nil && c.Allocation.Full && c.Capacity == 0 && r.Length == nil:
		return record.Errorf(record.Invalid, "nobody knows yet how long the stream is: a full allocation needs a capacity")
	case c.Capacity > 0 && r.Length != nil && *r.Length > c.Capacity:
		return record.Errorf(record.TooLarge, "the content has %s, and the volume is to have %s", quantity.FormatBoth(*r.Length), quantity.FormatBoth(c.Capacity))
	}
	return checkName("volume", r.Create.Name)
}

func checkBeginning(r *VolumeUpload) error {
	if r.Beginning == "" {
		return nil
	}
	_, digits, err := record.ParseContentChecksum(r.Beginning)
	switch {
	case err != nil:
		return record.Errorf(record.Invalid, "beginning: %v", err)
	case digits == "" || r.Continues == "":
		return record.Errorf(record.Invalid, "beginning is a checksum with its digits, of what continues has uploaded")
	}
	return nil
}

func checkContent(offset int64, checksum string) error {
	if offset < 0 {
		return record.Errorf(record.Invalid, "offset must not be negative: %d", offset)
	}
	if checksum == "" {
		return nil
	}
	if _, _, err := record.ParseContentChecksum(checksum); err != nil {
		return record.Errorf(record.Invalid, "%v", err)
	}
	return nil
}

// contentWork adds what the helper is handed.
func contentWork(w work, d Data) work {
	w.Form, w.Data, w.Dense = d.Form, d.File, d.Dense
	return w
}

// filledWork makes a volume with a content.
func filledWork(tx *store.Tx, pool string, r VolumeUpload) (work, error) {
	p, err := activePool(tx, pool)
	if err != nil {
		return work{}, err
	}
	if err := freeName(tx, p, r.Create.Name); err != nil {
		return work{}, err
	}
	w := contentWork(volumeWork(p, record.VolumeCreate, r.Create.Name), r.Data)
	w.Length, w.Checksum, w.AsFormat, w.DetectZeros = r.Length, r.Checksum, r.AsFormat, r.DetectZeros
	w.Capacity = r.Create.Capacity
	switch w.Format = r.Create.Format; {
	case r.AsFormat != "":
		w.Format = r.AsFormat
	case w.Format == "":
		w.Format = record.FormatRaw
	}
	if a := r.Create.Allocation; a != nil {
		if w.Allocation = a.Bytes; a.Full {
			w.Allocation = w.Capacity
		}
		if a.Full && w.Capacity == 0 && r.Length != nil {
			w.Allocation = *r.Length
		}
		w.Promise = w.Allocation
	}
	return w, nil
}

// uploadable refuses an upload that does not fit, as far as the catalogue knows.
func uploadable(v *store.Volume, w work) error {
	if v.Format != record.FormatRaw {
		return record.Errorf(record.Unsupported, "uploading into volumes of format %q is not supported: its file would have to change its length", v.Format).
			WithHint("delete it, and create it from the file: %s", record.Do("volume.create", v.Pool+"/"+v.Name).With("from", "FILE").With("format", v.Format))
	}
	room := v.Capacity - w.Offset
	if w.Length != nil && *w.Length > room || room < 0 {
		return record.Errorf(record.TooLarge, "volume %s has %s, which ends before the content; nothing grows by an upload", quoted(v.Pool, v.Name), quantity.FormatBoth(v.Capacity)).
			WithHint("%s gives it another capacity", record.Do("volume.resize", v.Pool+"/"+v.Name, "SIZE"))
	}
	return nil
}

// proceed makes the work the rest of an upload that broke off, the one with the
// id job, into the volume v.
func (w *work) proceed(tx *store.Tx, sub Submit, job string, v *store.Volume) error {
	old, err := tx.Job(job)
	if err != nil {
		return err
	}
	before, err := workOf(old)
	switch {
	case err != nil:
		return record.Errorf(record.Unsupported, "%v", err)
	case old.Kind != record.VolumeUpload || before.Pool != w.Pool || before.Volume != w.Volume || old.Owner.UID != sub.Caller.Owner.UID:
		return record.Errorf(record.Invalid, "job %d is no upload of yours to %s", old.Number, quoted(w.Pool, w.Volume))
	case !old.State.Terminal() || old.State == record.Succeeded:
		return record.Errorf(record.WrongState, "job %d %s; only an upload that broke off goes on", old.Number, stands(old.State))
	case before.partial():
		return record.Errorf(record.Unsupported, "job %d wrote a part of the volume, from %s on; only an upload of a whole content goes on", old.Number, quantity.FormatBoth(before.Offset)).
			WithHint("upload that part again, with %s", record.Do("").With("offset", before.Offset))
	case old.Error != nil && old.Error.Code == record.Mismatch:
		return record.Errorf(record.WrongState, "the content that job %d brought is not the one it should be: %s", old.Number, old.Error.Message).
			WithHint("upload the right content, from its start")
	case old.Progress.Done != w.Offset:
		return record.Errorf(record.Invalid, "job %d has %s of the content in place for certain; the rest must begin there, not at %s",
			old.Number, quantity.FormatBoth(old.Progress.Done), quantity.FormatBoth(w.Offset))
	}
	if !strings.Contains(w.Checksum, ":") && strings.Contains(before.Checksum, ":") {
		w.Checksum = before.Checksum // what all of it must have is known; digits given anew go before
	}
	if err := w.complete(before, old); err != nil {
		return err
	}
	w.Skipped, w.Continues, w.After = w.Offset, old.Number, old.Number
	// The old job resumed an upload itself. If it never began, the volume was last
	// written by the job that it was to go on from.
	if before.After != 0 && before.After == v.Writer {
		w.After = v.Writer
	}
	// The volume is marked incomplete by the number of the upload that broke off
	// first. If the old job did not put its own there, that one still holds.
	if before.Continues != 0 && !made(v, old) {
		w.Continues = before.Continues
	}
	return nil
}

// complete checks that a resumed upload reaches the end of the content that the
// upload before had, where its length is known: if it ends earlier it is another
// content, or a part of it. The length of an upload that was refused because it
// had another beginning tells nothing.
func (w *work) complete(before work, old *store.Job) error {
	number := old.Number
	if before.Length == nil || !before.Known && old.Code() == record.Changed && old.Progress.Done == before.Offset {
		return nil
	}
	left := before.Offset + *before.Length - w.Offset
	if w.Length != nil && *w.Length != left {
		return record.Errorf(record.Invalid, "the content of job %d has %s, of which %s are left, not %s", number,
			quantity.FormatBoth(before.Offset+*before.Length), quantity.FormatBoth(left), quantity.FormatBoth(*w.Length))
	}
	w.Length, w.Known = &left, true
	return nil
}

// partial reports whether an upload began in the middle of the volume, and not
// as the rest of one that broke off there.
func (w work) partial() bool { return w.Offset != w.Skipped }

// unfinished refuses the rest of a content for a volume that another job has
// begun to change since, whatever became of that: the beginning may be gone.
func unfinished(v *store.Volume, w work) error {
	there := w.Skipped == 0 || v.State == record.VolumeIncomplete
	if w.Continues == 0 || v.Writer == w.After && there {
		return nil
	}
	text := "volume %s has another content than job %d left in it"
	if v.Writer == 0 {
		text = "it is not known whether volume %s has still what job %d left in it"
	}
	return record.Errorf(record.Changed, text, quoted(v.Pool, v.Name), w.Continues).
		WithHint("upload the whole content again, from its start")
}

// DownloadVolume reads the content of a volume.
func (s *Service) DownloadVolume(ctx context.Context, sub Submit, pool, volume string, r VolumeDownload) (Started, error) {
	if err := checkContent(r.Offset, r.Checksum); err != nil {
		return Started{}, err
	}
	return s.resolve(ctx, sub, r.JobOptions, func(tx *store.Tx) (work, error) {
		p, v, err := wholeVolume(tx, sub, pool, volume)
		if err != nil {
			return work{}, err
		}
		w := contentWork(volumeWork(p, record.VolumeDownload, v.Name), r.Data)
		if err := contained(v, "a download of the volume's own file would leave out"); err != nil {
			return work{}, withHint(err, "qemu-img convert makes an image of it that needs no other file")
		}
		if v.Backing != "" {
			w.Warnings = append(w.Warnings, fmt.Sprintf("volume %s stands on %q, which is not part of what is downloaded: it is of use only together with that", quoted(p.Name, v.Name), v.Backing))
		}
		w.Format, w.Capacity, w.Offset, w.Length, w.Checksum = v.Format, v.Capacity, r.Offset, r.Length, r.Checksum
		if v.Format == record.FormatRaw && (w.Offset > v.Capacity || w.Length != nil && *w.Length > v.Capacity-w.Offset) {
			return work{}, record.Errorf(record.RangeUnsat, "volume %s has %s, and ends before what is to be read", quoted(v.Pool, v.Name), quantity.FormatBoth(v.Capacity))
		}
		return w, nil
	})
}
