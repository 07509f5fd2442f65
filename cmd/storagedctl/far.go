package main

import (
	"errors"
	"io"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"storaged/internal/record"
	"storaged/internal/sparse"
)

// A daemon of another host cannot be handed an open file: the content of one is sent, with
// its holes as holes (package sparse).

// fileStream gives what a file has as a stream, no more than most if that is not nil, and an
// error at its end if somebody wrote to it meanwhile. close ends the reading.
func fileStream(f *os.File, most *int64, pack bool) (stream io.Reader, close func()) {
	if !pack {
		s := &steady{f, f, stampOf(f)}
		if most != nil {
			s.Reader = io.LimitReader(f, *most)
		}
		return s, func() { f.Close() }
	}
	out, in := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer func() { done <- struct{}{} }()
		in.CloseWithError(packFile(in, f)) // nil is the end
	}()
	return out, func() {
		out.Close() // so that writing ends
		<-done
		f.Close()
	}
}

// fileStamp is what a file's content can be told to be another by.
type fileStamp struct {
	size int64
	at   time.Time
}

// stampOf gives that of an open file, or a zero one.
func stampOf(f *os.File) fileStamp {
	st, err := f.Stat()
	if err != nil {
		return fileStamp{}
	}
	return fileStamp{st.Size(), st.ModTime()}
}

// unchanged fails if f is not what it was.
func (s fileStamp) unchanged(f *os.File) error {
	if now := stampOf(f); now.size != s.size || !now.at.Equal(s.at) {
		return record.Errorf(record.Changed, "%q was changed while it was read", f.Name()).WithHint("do it again when nobody writes to it")
	}
	return nil
}

// steady reads a file, or the beginning of one, that must not change meanwhile.
type steady struct {
	io.Reader
	f   *os.File
	was fileStamp
}

func (s *steady) Read(b []byte) (int, error) {
	n, err := s.Reader.Read(b)
	if errors.Is(err, io.EOF) {
		if changed := s.was.unchanged(s.f); changed != nil {
			return n, changed
		}
	}
	return n, err
}

// packFile writes a file in the sparse form. The end is written only of one that stayed as
// it was: what has none is whole to nobody.
func packFile(w io.Writer, f *os.File) error {
	was := stampOf(f)
	to := sparse.NewWriter(w)
	for at := int64(0); at < was.size; {
		data, end, err := nextData(f, at, was.size)
		if err != nil {
			return openError("read", err)
		}
		if data > at {
			if err := to.Hole(data - at); err != nil {
				return err
			}
		}
		if _, err := io.Copy(to, io.NewSectionReader(f, data, end-data)); err != nil {
			return err
		}
		at = end
	}
	if err := was.unchanged(f); err != nil {
		return err
	}
	return to.Close()
}

// nextData gives the first data of a file from at on, and its end; size where there is none.
// What a file system tells no holes of is data.
func nextData(f *os.File, at, size int64) (data, end int64, err error) {
	data, err = f.Seek(at, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		return size, size, nil
	case errors.Is(err, unix.EINVAL):
		return at, size, nil
	case err != nil:
		return 0, 0, err
	}
	if end, err = f.Seek(data, unix.SEEK_HOLE); err != nil {
		return 0, 0, err
	}
	return min(data, size), min(end, size), nil
}

// holeSink is a file that a content in the sparse form is written into.
type holeSink struct {
	*sink
	at *io.OffsetWriter
	f  *os.File
}

// newHoleSink is that of an empty file, which people know by a name.
func newHoleSink(f *os.File, name string) *holeSink {
	at := io.NewOffsetWriter(f, 0)
	return &holeSink{&sink{Writer: at, name: strconv.Quote(name)}, at, f}
}

// unpack writes the content, and makes it durable. The holes cost nothing, whatever is
// said of their lengths.
func (h *holeSink) unpack(r io.Reader) error {
	in := sparse.NewReader(r)
	for {
		n, hole, err := in.Next()
		switch {
		case errors.Is(err, io.EOF):
			return h.end()
		case err == nil && hole:
			_, err = h.at.Seek(n, io.SeekCurrent)
		case err == nil:
			_, err = io.Copy(h, in)
		}
		if err != nil {
			return brokeOff(err)
		}
	}
}

// brokeOff tells of a stream that is not whole what is no word of its job.
func brokeOff(err error) error {
	if errors.Is(err, sparse.ErrTorn) || errors.Is(err, io.ErrUnexpectedEOF) {
		return record.Errorf(record.Interrupted, "the content broke off; the job tells why")
	}
	return err
}

// end gives the file its length.
func (h *holeSink) end() error {
	size, err := h.at.Seek(0, io.SeekCurrent)
	if err == nil {
		err = h.f.Truncate(size)
	}
	if err == nil {
		err = h.f.Sync()
	}
	if err != nil {
		return h.failed(err)
	}
	return nil
}
