package format

import (
	"encoding/binary"
	"errors"
	"io"
	"math"
	"slices"
)

// How much is read of the tables of an image, beside its header, to find out whether what
// they name lies behind the end of its file, bytes.
const (
	// glance is for an image in which nothing speaks for that, whenever its header is read.
	glance = 64 << 10
	// counted is of the counts of references of a qcow2, from the end of its file on, and of
	// the table of more of them: those are of the next 256 MiB, and of two terabytes.
	counted = 8 << 10
	// suspicion is where something does: that is all tables of a qcow2 of 128 GiB.
	suspicion = 16 << 20
	// scrutiny is for who is going to read the content: all tables of one of 512 GiB.
	scrutiny = 64 << 20
)

// cutoff finds what an image's tables name behind the end of its file, which reads as
// zeros in most formats, and nobody would know. What begins within the file is no more
// looked at: the last of what an image consists of may be short.
type cutoff struct {
	*header
	left  int64  // bytes that may still be read
	first uint64 // offset of the first that lies behind the end
	what  string // what that is
	end   uint64 // where the last of it ends; 0: there is none
}

// Scrutinize is InspectAs for who is going to read the content of an image: more of its
// tables is looked at, 64 MiB, to see whether its file is cut off.
//
// Neither looks at what snapshots within an image have, at clusters that read as zeros
// wherever they lie, at content in other files, and at what of a cluster is missing that
// begins within the file. Inspect and InspectAs look at all entries of the first table, as
// far as those are in 64 KiB, and at as much of the tables that these name; of a qcow2 at
// 16 MiB of those if its counts of references say that something is in use behind the
// end, or are out of date, and else at none.
func Scrutinize(f io.ReaderAt, size int64, format string) (Image, error) {
	return inspectAs(f, size, format, scrutiny)
}

// cutOff says of an image that is sound else whether its file is cut off.
func (h *header) cutOff() {
	if h.Problem != "" || h.size < 0 || h.look == nil {
		return
	}
	c := &cutoff{header: h, left: max(glance, h.deep)}
	if h.look(c); c.end > 0 && h.err == nil {
		h.bad("it is cut off: its file ends at %d, and %s lies at %d, behind that", h.size, c.what, c.first)
		h.Cut = int64(min(c.end, math.MaxInt64))
	}
}

// names takes up that n bytes at an offset are named.
func (c *cutoff) names(what string, at, n uint64) {
	if at < uint64(c.size) {
		return
	}
	if c.end == 0 || at < c.first {
		c.first, c.what = at, what
	}
	c.end = max(c.end, at+min(n, math.MaxUint64-at))
}

// bytes reads of a table what of it may be read. What lies behind the end is zeros.
func (c *cutoff) bytes(off, n uint64) []byte {
	n = min(n, uint64(c.left))
	if c.err != nil || n == 0 || off >= uint64(c.size) {
		return nil
	}
	b := make([]byte, min(n, uint64(c.size)-off))
	c.left -= int64(len(b))
	got, err := c.from.ReadAt(b, int64(off))
	if err != nil && !errors.Is(err, io.EOF) {
		c.err = err
	}
	return b[:got]
}

// entries are numbers of 64 bits of a table.
func (c *cutoff) entries(off, n uint64) []uint64 { return words(c.bytes(off, 8*n)) }

// short are numbers of 32 bits.
func (c *cutoff) short(off, n uint64) (list []uint64) {
	for b := c.bytes(off, 4*n); len(b) >= 4; b = b[4:] {
		list = append(list, uint64(binary.LittleEndian.Uint32(b)))
	}
	return list
}

// tables are those that a table names, the last of the file first: they were made last,
// and name what was.
func (c *cutoff) tables(named []uint64, mask, size uint64) (list []uint64) {
	for _, at := range named {
		if at &= mask; at != 0 {
			c.names("a table", at, size)
			list = append(list, at)
		}
	}
	slices.Sort(list)
	slices.Reverse(list)
	return list
}
