// Package header reads what the header of a volume says, whatever store the volume
// is in, and finds out which files it names.
package header

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"storaged/internal/backends"
	"storaged/internal/format"
	"storaged/internal/record"
)

// Reader reads the headers of the volumes of a pool.
type Reader struct{ finder }

// NewReader gives one that has looked for no file yet.
func NewReader() *Reader {
	return &Reader{finder{locate: locate, known: map[string]backends.Reference{}}}
}

// Read adds to info, which has the size, what the header of the open volume says,
// whatever format that is of, and what it says in others that it begins like.
func (r *Reader) Read(f io.ReaderAt, info *backends.VolumeInfo) error {
	i, err := whole(f, info.Size, func(size int64) (format.Image, error) { return format.Inspect(f, size) })
	if err == nil {
		r.tell(i, info)
		info.As, err = r.others(f, i.Also, *info)
	}
	return err
}

// whole reads a header again of a file that has grown since it was seen to be shorter than
// its tables have it: somebody is at work on it, and writes what they name before them.
func whole(f io.ReaderAt, size int64, read func(size int64) (format.Image, error)) (i format.Image, err error) {
	const tries = 3 // of one that grows each time nothing is known
	for range tries {
		if i, err = read(size); err != nil || i.Cut == 0 {
			return i, err
		}
		now, ok := length(f)
		if !ok || now <= size {
			return i, nil
		}
		size = now
	}
	i.Problem, i.Cut = "", 0
	return i, nil
}

// length is how long what is read is by now; ok is false where nobody can say.
func length(f io.ReaderAt) (n int64, ok bool) {
	switch f := f.(type) {
	case interface{ Size() (int64, error) }:
		n, err := f.Size()
		return n, err == nil
	case *os.File:
		n, err := f.Seek(0, io.SeekEnd) // of a device too
		return n, err == nil
	}
	return 0, false
}

// others read the header by each of some formats.
func (r *Reader) others(f io.ReaderAt, formats []string, info backends.VolumeInfo) (all []backends.Header, err error) {
	for _, in := range formats {
		i, err := format.InspectAs(f, info.Size, in)
		if err != nil {
			return nil, err
		}
		as := backends.VolumeInfo{Path: info.Path, Capacity: info.Size}
		r.tell(i, &as)
		all = append(all, backends.Header{Format: as.Format, Capacity: as.Capacity, Backing: as.Backing, References: as.References, Problem: as.Problem})
	}
	return all, nil
}

// Named are the files that the header of an image in the directory names.
func Named(dir string, i format.Image) []backends.Reference { return NewReader().references(dir, i) }

func (r *Reader) tell(i format.Image, info *backends.VolumeInfo) {
	info.Format, info.Backing, info.Problem, info.Twofold, info.Cut = i.Format, record.Escape(i.Backing), i.Problem, i.Twofold, i.Cut > 0
	info.References = r.references(filepath.Dir(info.Path), i)
	info.Options, info.Internal = optionsOf(i), i.Snapshots
	if i.Capacity > 0 {
		info.Capacity = i.Capacity
	}
}

// optionsOf are those with which an image like it is made, by their names in
// record.Creations.
func optionsOf(i format.Image) map[string]string {
	if i.Format != "qcow2" {
		return nil
	}
	onOff := map[bool]string{false: "off", true: "on"}
	return map[string]string{
		"compat":         i.Compat,
		"cluster_size":   strconv.FormatInt(i.ClusterSize, 10),
		"lazy_refcounts": onOff[slices.Contains(i.Features, "lazy-refcounts")],
		"extended_l2":    onOff[slices.Contains(i.Features, "extended-l2")],
	}
}

// Inspect tells what a volume is and what its header says, which is known to be an
// image in that format.
func Inspect(v backends.Volume, in string) (backends.VolumeInfo, error) {
	info, err := v.Info()
	if err != nil {
		return info, err
	}
	f := v.Content()
	i, err := whole(f, info.Size, func(size int64) (format.Image, error) { return format.InspectAs(f, size, in) })
	if err != nil {
		return info, fmt.Errorf("cannot read the header of volume %q: %w", info.Path, err)
	}
	NewReader().tell(i, &info)
	return info, nil
}
