package service

import (
	"strings"

	"storaged/internal/catalog"
	"storaged/internal/operation"
	"storaged/internal/quantity"
	"storaged/internal/record"
	"storaged/internal/store"
)

// resumeUpload makes an upload into the volume v the rest of one of the same caller
// that broke off.
func (q submission) resumeUpload(tx *store.Tx, u *operation.Upload, v *store.Volume) error {
	old, before, err := q.brokenOff(tx, u)
	if err != nil {
		return err
	}
	if !strings.Contains(u.Checksum, ":") && strings.Contains(before.Checksum, ":") {
		u.Checksum = before.Checksum // what all of it must have is known; digits given anew go before
	}
	if err := reachesEnd(u, before, old); err != nil {
		return err
	}
	u.Skipped, u.Continues, u.After = u.Offset, old.Number, old.Number
	// The old job resumed an upload itself. If it never began, the volume was last
	// written by the job that it was to go on from.
	if before.After != 0 && before.After == v.Writer {
		u.After = v.Writer
	}
	// The volume is marked incomplete by the number of the upload that broke off
	// first. If the old job did not put its own there, that one still holds.
	if before.Continues != 0 && !catalog.Made(v, old) {
		u.Continues = before.Continues
	}
	return catalog.Unfinished(v, u)
}

// brokenOff gives the upload that u is the rest of, and its job. It refuses one that
// nobody can go on from, or not from there.
func (q submission) brokenOff(tx *store.Tx, u *operation.Upload) (*store.Job, *operation.Upload, error) {
	old, err := tx.Job(q.request.(*operation.UploadRequest).Continues)
	if err != nil {
		return nil, nil, err
	}
	decoded, err := catalog.OperationOf(old)
	if err != nil {
		return nil, nil, record.Errorf(record.Unsupported, "%v", err)
	}
	before, ok := decoded.(*operation.Upload)
	switch {
	case !ok || before.Over || before.Pool != u.Pool || before.Name != u.Name || old.Owner.UID != q.Caller.Owner.UID:
		err = record.Errorf(record.Invalid, "job %d is no upload of yours to %s", old.Number, record.Quoted(u.Pool, u.Name))
	case !old.State.Terminal() || old.State == record.Succeeded:
		err = record.Errorf(record.WrongState, "job %d %s; only an upload that broke off goes on", old.Number, stands(old.State))
	case before.As != u.As:
		err = record.Errorf(record.Invalid, "job %d uploaded %s; only the same goes on", old.Number, uploaded(before)).WithHint("%s", record.Do("").With("as", before.As))
	case before.Partial():
		err = record.Errorf(record.Unsupported, "job %d wrote a part of the volume, from %s on; only an upload of a whole content goes on", old.Number, quantity.FormatBoth(before.Offset)).
			WithHint("upload that part again, with %s", record.Do("").With("offset", before.Offset))
	case old.Error != nil && old.Error.Code == record.Mismatch:
		err = record.Errorf(record.WrongState, "the content that job %d brought is not the one it should be: %s", old.Number, old.Error.Message).
			WithHint("upload the right content, from its start")
	case old.Progress.Done != u.Offset:
		err = record.Errorf(record.Invalid, "job %d has %s of the content in place for certain; the rest must begin there, not at %s",
			old.Number, quantity.FormatBoth(old.Progress.Done), quantity.FormatBoth(u.Offset))
	}
	return old, before, err
}

// uploaded says what of the volume an upload writes.
func uploaded(u *operation.Upload) string {
	if u.Opens() {
		return "the content of an image"
	}
	return "the file as it is"
}

// reachesEnd checks that a resumed upload reaches the end of the content that the
// upload before had, where its length is known: if it ends earlier it is another
// content, or a part of it. The length of an upload that was refused because it
// had another beginning tells nothing.
func reachesEnd(u, before *operation.Upload, old *store.Job) error {
	number := old.Number
	if before.Length == nil || !before.Known && old.Code() == record.Changed && old.Progress.Done == before.Offset {
		return nil
	}
	left := before.Offset + *before.Length - u.Offset
	if u.Length != nil && *u.Length != left {
		return record.Errorf(record.Invalid, "the content of job %d has %s, of which %s are left, not %s", number,
			quantity.FormatBoth(before.Offset+*before.Length), quantity.FormatBoth(left), quantity.FormatBoth(*u.Length))
	}
	u.Length, u.Known = &left, true
	return nil
}

// givenAgain says how a client does again what a job did with its file or stream.
func givenAgain(tx *store.Tx, old *store.Job) record.Hint {
	on := old.Subject()
	switch {
	case old.Kind == record.VolumeDownload:
		return record.Hintf("start it anew: %s", record.Do("volume.download", on, "FILE"))
	case old.Kind == record.VolumeCreate:
		return record.Hintf("start it anew: %s", record.Do("volume.create", on).With("from", "FILE"))
	case continuable(tx, old):
		return record.Hintf("it goes on where it stopped: %s", record.Do("volume.upload", on, "FILE").With("resume"))
	}
	return record.Hintf("start it anew: %s; nothing is left of it to go on with", record.Do("volume.upload", on, "FILE"))
}

// continuable reports whether an upload that broke off has left something in its volume from
// which another one can go on: all of that is there still, and is part of a whole content.
func continuable(tx *store.Tx, old *store.Job) bool {
	o, err := catalog.OperationOf(old)
	if err != nil {
		return false
	}
	u, ok := o.(*operation.Upload)
	if !ok || u.Over || u.Partial() || old.Progress.Done == 0 || old.Code() == record.Mismatch {
		return false
	}
	v, err := tx.Volume(u.Pool, u.Name)
	return err == nil && v.State == record.VolumeIncomplete && v.Writer == old.Number
}
