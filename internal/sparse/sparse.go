// Package sparse is the form application/vnd.storaged.sparse: a content as a
// stream of data and holes, with an end that cannot be missed.
//
//	magic    8 bytes   89 53 50 52 0d 0a 1a 01; the last is the version
//	frames, each a kind (1 byte) and a length (8 bytes, big-endian):
//	  'D' length   that many bytes of data follow
//	  'H' length   that many bytes of the content are zeros, and not sent
//	  'E' length   the end: the length of the whole content, then its check
//	check    4 bytes   CRC-32C, big-endian, of every byte of the stream before it
//
// Lengths are more than 0 (of 'E' 0 is the empty content), and no content is
// longer than MaxLength. Nothing follows the check. Extents come in the order
// of the content, without gaps.
package sparse

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
)

// MediaType names the form.
const MediaType = "application/vnd.storaged.sparse"

// MaxLength bounds a content, bytes: far above any volume, far below an
// overflow.
const MaxLength = 1 << 62

const (
	magic      = "\x89SPR\r\n\x1a\x01"
	kindData   = 'D'
	kindHole   = 'H'
	kindEnd    = 'E'
	headBytes  = 9
	checkBytes = 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var (
	// ErrTorn says that a stream ended before its end: whoever sent it went
	// away.
	ErrTorn = errors.New("the stream broke off before its end")
	// ErrForm says that a stream is not in this form.
	ErrForm = errors.New("the stream is not in the form " + MediaType)
)

// Begins reports whether bytes begin like a stream in this form, of whichever
// version.
func Begins(b []byte) bool { return strings.HasPrefix(string(b), magic[:len(magic)-1]) }

// Writer writes a content. Its methods are called by one goroutine. After an
// error nothing more is written.
type Writer struct {
	w     io.Writer
	crc   uint32
	total int64
	hole  int64 // not written yet
	err   error
}

// NewWriter makes a Writer; the caller ends the content by Close.
func NewWriter(w io.Writer) *Writer {
	out := &Writer{w: w}
	out.put([]byte(magic))
	return out
}

// Write adds data.
func (w *Writer) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, w.err
	}
	w.flushHole()
	w.head(kindData, int64(len(p)))
	w.put(p)
	if w.err != nil {
		return 0, w.err
	}
	w.total += int64(len(p))
	return len(p), nil
}

// Hole adds n zeros.
func (w *Writer) Hole(n int64) error {
	w.hole += n
	w.total += n
	return w.err
}

// Close writes the end. It does not close what it writes to.
func (w *Writer) Close() error {
	w.flushHole()
	w.head(kindEnd, w.total)
	w.put(binary.BigEndian.AppendUint32(nil, w.crc))
	return w.err
}

func (w *Writer) flushHole() {
	if w.hole > 0 {
		w.head(kindHole, w.hole)
		w.hole = 0
	}
}

func (w *Writer) head(kind byte, n int64) {
	w.put(binary.BigEndian.AppendUint64([]byte{kind}, uint64(n)))
}

func (w *Writer) put(p []byte) {
	if w.err != nil {
		return
	}
	w.crc = crc32.Update(w.crc, castagnoli, p)
	_, w.err = w.w.Write(p)
}

// Reader reads a content that a stranger may have sent. Whatever it is fed, it
// takes no more memory than a small buffer. After an error it gives that error
// again.
type Reader struct {
	r     *bufio.Reader
	crc   uint32
	begun bool
	total int64
	left  int64 // of the data of the current extent
	err   error
}

// NewReader makes a Reader. It reads nothing yet.
func NewReader(r io.Reader) *Reader { return &Reader{r: bufio.NewReader(r)} }

// Next goes to the next extent and gives its length, and whether it is a hole;
// what was not read of the data before is passed over. Behind the last extent
// it is io.EOF, and only then the content was whole. ErrTorn and ErrForm can be
// told apart from errors of the reader below.
func (r *Reader) Next() (n int64, hole bool, err error) {
	if r.err == nil && r.left > 0 {
		_, r.err = io.Copy(io.Discard, r)
	}
	if r.err == nil && !r.begun {
		r.begin()
	}
	if r.err != nil {
		return 0, false, r.err
	}
	n, hole, r.err = r.next()
	return n, hole, r.err
}

// Read reads data of the current extent; io.EOF is its end.
func (r *Reader) Read(p []byte) (int, error) {
	switch {
	case r.err != nil:
		return 0, r.err
	case r.left == 0:
		return 0, io.EOF
	}
	n, err := r.r.Read(p[:min(int64(len(p)), r.left)])
	r.crc = crc32.Update(r.crc, castagnoli, p[:n])
	r.left -= int64(n)
	if n == 0 && err != nil {
		r.err = torn(err)
	}
	return n, r.err
}

func (r *Reader) begin() {
	var b [len(magic)]byte
	if r.err = r.full(b[:]); r.err == nil && string(b[:]) != magic {
		r.err = fmt.Errorf("%w: it does not begin as what was downloaded sparse. A plain content is sent without 'sparse', and what its file has of holes stays holes", ErrForm)
	}
	r.begun = true
}

func (r *Reader) next() (n int64, hole bool, err error) {
	var head [headBytes]byte
	if err := r.full(head[:]); err != nil {
		return 0, false, err
	}
	kind, length := head[0], binary.BigEndian.Uint64(head[1:])
	switch {
	case kind == kindEnd:
		return 0, false, r.end(length)
	case kind != kindData && kind != kindHole:
		return 0, false, fmt.Errorf("%w: a frame is of kind %#02x", ErrForm, kind)
	case length == 0 || length > uint64(MaxLength-r.total):
		return 0, false, fmt.Errorf("%w: an extent of %d bytes", ErrForm, length)
	}
	n = int64(length)
	r.total += n
	if kind == kindData {
		r.left = n
	}
	return n, kind == kindHole, nil
}

// end checks the end; it is io.EOF when all is well.
func (r *Reader) end(length uint64) error {
	want := r.crc
	var b [checkBytes]byte
	if err := r.full(b[:]); err != nil {
		return err
	}
	if length != uint64(r.total) {
		return fmt.Errorf("%w: its end tells of %d bytes, and %d came", ErrForm, length, r.total)
	}
	if got := binary.BigEndian.Uint32(b[:]); got != want {
		return fmt.Errorf("%w: its check is %08x, and it should be %08x; it was changed on its way", ErrForm, got, want)
	}
	switch _, err := r.r.ReadByte(); {
	case err == nil:
		return fmt.Errorf("%w: something follows its end", ErrForm)
	case !errors.Is(err, io.EOF):
		return err
	}
	return io.EOF
}

func (r *Reader) full(p []byte) error {
	n, err := io.ReadFull(r.r, p)
	r.crc = crc32.Update(r.crc, castagnoli, p[:n])
	return torn(err)
}

// torn makes ErrTorn of an end that comes too early.
func torn(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return ErrTorn
	}
	return err
}
