package task

import (
	"bufio"
	"errors"
	"io"
	"math"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/xi2/xz"

	"storaged/internal/diskio"
	"storaged/internal/format"
	"storaged/internal/ipc"
	"storaged/internal/record"
)

// unpackWindow bounds how far back what is packed may refer, and so what memory it
// takes to unpack it, whatever it says: bytes. xz -9 makes use of half of it, and zstd
// takes no more either unless it is asked to.
const unpackWindow = 128 << 20

// unpackers read what is in a packed content, by its form.
var unpackers = map[string]func(io.Reader) (io.Reader, error){
	"gzip": func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) },
	"xz":   func(r io.Reader) (io.Reader, error) { return xz.NewReader(r, unpackWindow) },
	"zstd": func(r io.Reader) (io.Reader, error) {
		return zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(unpackWindow))
	},
}

// unpacked gives what is in the content, which must begin like one of its form. It
// has no goroutine and nothing to close.
func (c *content) unpacked() (diskio.Stream, error) {
	from := &remembering{Reader: io.NewSectionReader(c.file.File, 0, math.MaxInt64)}
	if c.from.form != "" {
		from.Reader = &inOrder{Stream: c.from.content(c.file)}
	}
	buffered := bufio.NewReader(from)
	head, err := buffered.Peek(headBytes)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if len(head) == 0 {
		return nil, c.empty()
	}
	if format.Packed(head).Name != c.unpack {
		return nil, ipc.Errorf(record.Invalid, "the content does not begin like one in the form of %s, which was to be unpacked; nothing was written", c.unpack).
			WithHint("--unpack none takes it as it is")
	}
	u := &unpacking{from: from, form: c.unpack}
	if u.Reader, err = unpackers[c.unpack](buffered); err != nil {
		return nil, u.why(err)
	}
	return &rawContent{r: u}, nil
}

// unpacking says what is wrong with a content that cannot be unpacked.
type unpacking struct {
	io.Reader
	from *remembering
	form string
}

func (u *unpacking) Read(p []byte) (int, error) {
	n, err := u.Reader.Read(p)
	return n, u.why(err)
}

func (u *unpacking) why(err error) error {
	switch {
	case err == nil || err == io.EOF:
		return err
	case u.from.err != nil && u.from.err != io.EOF:
		return u.from.err
	case errors.Is(err, xz.ErrMemlimit), errors.Is(err, zstd.ErrWindowSizeExceeded), errors.Is(err, zstd.ErrDecoderSizeExceeded):
		return ipc.Errorf(record.Unsupported, "the content is packed in the form of %s so that it takes more than %d MiB of memory to unpack it", u.form, unpackWindow>>20).
			WithHint("unpack it before, and send the bytes through a pipe")
	}
	return ipc.Errorf(record.Invalid, "the content cannot be unpacked, as one in the form of %s that is damaged or cut off: %v", u.form, err)
}

// remembering keeps the error of a reader, which whoever unpacks may hide.
type remembering struct {
	io.Reader
	err error
}

func (r *remembering) Read(p []byte) (n int, err error) {
	n, r.err = r.Reader.Read(p)
	return n, r.err
}

// inOrder is a stream as bytes, in which holes are zeros.
type inOrder struct {
	diskio.Stream
	rest int64 // of the current extent
	hole bool
}

func (s *inOrder) Read(p []byte) (n int, err error) {
	for s.rest == 0 {
		if s.rest, s.hole, err = s.Next(); err != nil {
			return 0, err
		}
	}
	p = p[:min(int64(len(p)), s.rest)]
	if n = len(p); s.hole {
		clear(p)
	} else {
		n, err = s.Stream.Read(p)
	}
	s.rest -= int64(n)
	if err == io.EOF && n > 0 {
		err = nil
	}
	return n, err
}
