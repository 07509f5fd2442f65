package task

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"storaged/internal/backends"
	"storaged/internal/diskio"
	"storaged/internal/helper"
	"storaged/internal/operation"
	"storaged/internal/quantity"
	"storaged/internal/record"
	"storaged/internal/sparse"
)

// Download makes the task of an operation.
func Download(o *operation.Download) (helper.Task, error) {
	w := download{format: o.Format, off: o.Offset, length: orAny(o.Length), size: orAny(o.Size)}
	var err error
	if w.at, err = volume(o, "volume", o.Volume); err != nil {
		return helper.Task{}, err
	}
	if err := needed(o, "target", o.To != ""); err != nil {
		return helper.Task{}, err
	}
	if w.to, err = externalOf(o.To, o.Form); err != nil {
		return helper.Task{}, err
	}
	if w.sum, err = checksumOf(o.Checksum); err != nil {
		return helper.Task{}, err
	}
	return w.task(), nil
}

type download struct {
	at     helper.Location
	to     external
	off    int64 // bytes
	length int64 // -1: up to the end
	size   int64 // that the volume must have, -1 is any
	format string
	sum    checksum
	kept   *sourceWatch // the volume
}

func (w download) task() helper.Task {
	t := helper.Task{
		Doing:  fmt.Sprintf("download %q to %s", w.at.Path, w.to),
		Done:   fmt.Sprintf("downloaded %q to %s", w.at.Path, w.to),
		Undone: fmt.Sprintf("%s is not complete", w.to),
		Reads:  w.at.Path,
		Writes: w.to.path(),
		Room:   "make room where the content goes, or send it elsewhere",
		Stdout: w.to.given == "-",
		Work:   w.work,
	}
	if w.byName() {
		t.Undone = fmt.Sprintf("%s is as it was", w.to)
	}
	return t
}

// byName reports whether the target is a file that gets its name in the end.
func (w download) byName() bool { return w.to.form == "" && !w.to.isOpen() }

func (w download) work(ctx context.Context, r *helper.Run) error {
	v, err := r.Open(ctx, w.at, backends.ReadShared)
	if err != nil {
		return err
	}
	defer v.Close()
	if err := (copying{w.at.Path, "", w.format, true}).admit(v); err != nil {
		return err
	}
	info, err := v.Info()
	if err != nil {
		return err
	}
	if w.length, err = w.extent(info.Size); err != nil {
		return err
	}
	if w.kept, err = watch(ctx, r, v.File(), strconv.Quote(w.at.Path)); err != nil {
		return err
	}
	r.Plan(helper.Moving("download", w.length))
	r.Next(0)
	if w.byName() {
		err = w.named(ctx, r, v)
	} else {
		err = w.handed(ctx, r, v)
	}
	return cmp.Or(err, r.Describe(v))
}

// extent is how much is to be read of a volume of that size.
func (w download) extent(size int64) (int64, error) {
	switch {
	case w.size >= 0 && w.size != size:
		return 0, helper.Failed(record.Changed, "%q has %s, not %s; somebody has changed its size", w.at.Path, quantity.FormatBoth(size), quantity.FormatBoth(w.size))
	case w.off > size, w.length > size-w.off:
		return 0, helper.Failed(record.RangeUnsat, "%q has %s, and ends before what is to be read", w.at.Path, quantity.FormatBoth(size))
	case w.length < 0:
		return size - w.off, nil
	}
	return w.length, nil
}

// handed gives the content to a descriptor or a stream.
func (w download) handed(ctx context.Context, r *helper.Run, v backends.Volume) error {
	f, err := w.to.open(ctx, true)
	if err != nil {
		return err
	}
	defer f.Close() // what was to be durable is
	if w.to.form != "" {
		return w.stream(ctx, r, v, f)
	}
	if err := otherThan(f, v); err != nil {
		return err
	}
	return w.fill(ctx, r, v, f.File)
}

func (w download) stream(ctx context.Context, r *helper.Run, v backends.Volume, f *externalFile) error {
	var to diskio.Sink = rawSink{f}
	end := func() error { return nil }
	if w.to.form == streamSparse {
		s := sparse.NewWriter(f)
		to, end = s, s.Close
	}
	h := w.sum.hash()
	did, err := diskio.Send(ctx, r.Pacer, diskio.SendSpec{Src: diskio.FileContent(v.File()), Off: w.off, Len: w.length, To: to, Hash: h})
	r.Report.Method, r.Report.Bytes = diskio.MethodCopy, did.Bytes
	if err = w.kept.ended(err); err == nil {
		err = w.sum.judgeMoved(r, did, h)
	}
	if err == nil {
		err = end()
	}
	return err
}

// fill makes an open file the content.
func (w download) fill(ctx context.Context, r *helper.Run, v backends.Volume, f *os.File) error {
	if err := cmp.Or(f.Truncate(0), f.Truncate(w.length)); err != nil {
		return fmt.Errorf("cannot give %s its size: %w", w.to, err)
	}
	h := w.sum.hash()
	did, err := diskio.Place(ctx, r.Pacer, diskio.PlaceSpec{
		Dst: diskio.FileContent(f), Src: diskio.FileContent(v.File()), SrcOff: w.off, Len: w.length, Clean: true, Hash: h,
	})
	r.Report.Method, r.Report.Bytes = diskio.MethodCopy, did.Bytes
	if err = w.kept.ended(err); err != nil {
		return err
	}
	return w.sum.judgeMoved(r, did, h)
}

// named makes the file beside its name, and gives it that when it is complete.
func (w download) named(ctx context.Context, r *helper.Run, v backends.Volume) (err error) {
	path, err := absolute(w.to.given)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(filepath.Dir(path), "."+r.ID+".download"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return fmt.Errorf("cannot make a file beside %s: %w", w.to, err)
	}
	defer func() {
		f.Close() // what was to be durable is
		if err != nil {
			if gone := os.Remove(f.Name()); gone != nil && !errors.Is(gone, os.ErrNotExist) {
				r.Warn("%v", gone)
			}
		}
	}()
	if err := w.fill(ctx, r, v, f); err != nil {
		return err
	}
	return w.publish(ctx, r, f.Name(), path)
}

// publish gives the file its name, durably.
func (w download) publish(ctx context.Context, r *helper.Run, temp, path string) error {
	return r.Step(ctx, func() error {
		if err := r.Seal(); err != nil {
			return err
		}
		if err := os.Rename(temp, path); err != nil {
			return fmt.Errorf("cannot give %s its name: %w", w.to, err)
		}
		dir, err := os.Open(filepath.Dir(path))
		if err != nil {
			return fmt.Errorf("cannot make the name of %s durable: %w", w.to, err)
		}
		defer dir.Close()
		if err := dir.Sync(); err != nil {
			return fmt.Errorf("cannot make the name of %s durable: %w", w.to, err)
		}
		return nil
	})
}
