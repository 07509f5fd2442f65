// Package header reads what the header of a volume says, whatever store the volume
// is in, and finds out which files it names.
package header

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"storaged/internal/backends"
	"storaged/internal/image"
	"storaged/internal/record"
)

// Reader reads the headers of the volumes of a pool.
type Reader struct {
	buf []byte
	finder
}

// NewReader gives one that has looked for no file yet.
func NewReader() *Reader {
	return &Reader{buf: make([]byte, image.HeaderSize), finder: finder{locate: locate, known: map[string]backends.Reference{}}}
}

// Read adds to info what the header of the open volume says.
func (r *Reader) Read(f io.ReaderAt, info *backends.VolumeInfo) error {
	n, err := f.ReadAt(r.buf, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	h := image.Inspect(r.buf[:n])
	info.Format, info.Backing = h.Format, record.Escape(h.Backing)
	info.References = r.references(filepath.Dir(info.Path), h)
	if h.Capacity > 0 {
		info.Capacity = h.Capacity
	}
	return nil
}

// Inspect tells what a volume is and what its header says, as Refresh does. It is
// for who knows that the volume is no raw one.
func Inspect(v backends.Volume) (backends.VolumeInfo, error) {
	info, err := v.Info()
	if err != nil {
		return info, err
	}
	if err := NewReader().Read(v.Content(), &info); err != nil {
		return info, fmt.Errorf("cannot read the header of volume %q: %w", info.Path, err)
	}
	return info, nil
}
