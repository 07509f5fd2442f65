package diskio

import (
	"errors"
	"io"
	"math/bits"
)

// Content is what a guest sees of a volume: bytes from 0 to its size, of which
// some are known to be zeros. A file and a block device are one, by FileContent;
// others are served by another process. Its methods are called by several
// goroutines at once. They have no context: where a call may never return, who
// cancels a transfer has to end that too, by closing the connection, say.
//
// What a Content answers is not trusted: a short answer or a map of extents that
// cannot be is an error of the transfer.
type Content interface {
	// ReadAt and WriteAt move at most ChunkBytes, of any alignment, and all of it
	// unless they give an error. What was written is with the storage, in no
	// cache of ours, and safe after the next Flush.
	io.ReaderAt
	io.WriterAt
	// Size is the length, in bytes.
	Size() (int64, error)
	// Extents gives the first extents of what lies from off to end, n of them, one
	// at least, as far as there is room: in order, without a gap, the first from off
	// on, and none beyond end. Where nothing is known all is Data.
	Extents(list []Extent, off, end int64) (n int, err error)
	// Zero makes a part read as zeros without moving them. unmap says that its
	// storage may be given back; without it the part keeps or gets storage of its
	// own. It is ErrUnsupported where that is no cheaper than writing.
	Zero(off, n int64, unmap bool) error
	// Flush makes what was written before durable. Its first error is final.
	Flush() error
}

// Parallel is a Content that is fastest with so many requests at a time.
type Parallel interface{ Requests() int }

// Granular is a Content that gives storage back in units of so many bytes.
type Granular interface{ Granularity() int64 }

// Discarder is a Content that gives storage back without a promise of what is
// read there after.
type Discarder interface{ Discard(off, n int64) error }

// Extent is a part of a content.
type Extent struct {
	Off, Len int64 // bytes
	Kind     Kind
}

// End is the offset behind the last byte.
func (x Extent) End() int64 { return x.Off + x.Len }

// Kind is what is known of an extent.
type Kind uint8

// Kinds of extents. Only data has to be moved.
const (
	Data Kind = iota
	Zero      // reads as zeros, and may have storage all the same
	Hole      // reads as zeros, and has no storage
)

// mostRequests bounds what a Content may ask for: each is a buffer of a chunk.
const mostRequests = 64

// requests is how many are made at a time of contents that work together.
func requests(contents ...Content) int {
	n := workers
	for _, c := range contents {
		if p, ok := c.(Parallel); ok {
			n = max(n, min(p.Requests(), mostRequests))
		}
	}
	return n
}

// granularity is the unit in which c gives storage back: a power of two, and
// not more than a chunk.
func granularity(c Content) int64 {
	g, ok := c.(Granular)
	if !ok {
		return alignment
	}
	n := g.Granularity()
	if n < leastChunk || n > chunkBytes || bits.OnesCount64(uint64(n)) != 1 {
		return alignment
	}
	return n
}

// contentSize is the size of a content that says a possible one.
func contentSize(c Content) (int64, error) {
	n, err := c.Size()
	if err == nil && n < 0 {
		err = errors.New("its size is negative")
	}
	return n, ioError("stat", nowhere, err)
}

// readFull reads all of buf; the end of the content is ErrShrunk, for the caller
// knows the size.
func readFull(c Content, buf []byte, off int64) error { return readAs(opRead, c, buf, off) }

func readAs(op string, c Content, buf []byte, off int64) error {
	n, err := c.ReadAt(buf, off)
	switch {
	case n == len(buf) && (err == nil || errors.Is(err, io.EOF)): // an io.ReaderAt may say that it is the end
		return nil
	case errors.Is(err, io.EOF):
		err = ErrShrunk
	case err == nil:
		err = io.ErrUnexpectedEOF
	}
	return ioError(op, off+int64(n), err)
}

func writeFull(c Content, buf []byte, off int64) error {
	n, err := c.WriteAt(buf, off)
	if err == nil && n != len(buf) {
		err = io.ErrShortWrite
	}
	return ioError("write", off+int64(n), err)
}
