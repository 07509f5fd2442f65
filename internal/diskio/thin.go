package diskio

import (
	"bytes"
	"math/bits"
	"os"
)

// thin is a block device that gets its storage in units as it is written, and reads as zeros
// where a unit was discarded. The kernel says neither of any device.
type thin struct {
	file
	unit int64 // bytes
}

// ThinUnit reports whether content is given back in units of so many bytes: those larger than
// what is looked at at a time, or no power of two, are not.
func ThinUnit(bytes int64) bool {
	return bytes > 0 && bytes <= chunkBytes && bits.OnesCount64(uint64(bytes)) == 1
}

// ThinContent is the content of an open block device of that kind, whose unit is a ThinUnit.
func ThinContent(f *os.File, unit int64) Content { return thin{file{f}, unit} }

// Granularity is the unit.
func (t thin) Granularity() int64 { return t.unit }

// Zero gives the whole units of a part back. What lies beside them, and has storage in any
// case, is written where it does not read as zeros yet.
func (t thin) Zero(off, n int64, unmap bool) error {
	if !unmap {
		return ErrUnsupported
	}
	first, last := roundUp(off, t.unit), (off+n)/t.unit*t.unit
	if first >= last {
		return t.clear(off, n)
	}
	if err := t.Discard(first, last-first); err != nil {
		return err
	}
	if err := t.clear(off, first-off); err != nil {
		return err
	}
	return t.clear(last, off+n-last)
}

// clear writes zeros where there are others.
func (t thin) clear(off, n int64) error {
	buf := make([]byte, min(n, chunkBytes))
	for end := off + n; off < end; off += int64(len(buf)) {
		buf = buf[:min(end-off, chunkBytes)]
		if err := readFull(t, buf, off); err != nil {
			return err
		}
		if bytes.Equal(buf, zeros[:len(buf)]) {
			continue
		}
		clear(buf)
		if err := writeFull(t, buf, off); err != nil {
			return err
		}
	}
	return nil
}
