package diskio

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// ReadBack reads all and compares it with the pattern, past the page cache where
// it can. Nothing of c may be dirty.
func ReadBack(ctx context.Context, p *Pacer, c Content, r Round) error {
	read := func(buf []byte, off int64) error { return readAs(opVerify, c, buf, off) }
	if f := FileOf(c); f != nil {
		restore, err := uncache(f)
		if err != nil {
			return err
		}
		defer restore()
		read = func(buf []byte, off int64) error { return readAligned(f, buf, off) }
	}
	spare := sync.Pool{New: func() any { return new([chunkBytes]byte) }}
	s := streams{p: p, requests: requests(c), keep: r.checkpointer(nil), step: func(_ context.Context, buf []byte, off int64) (Moved, error) {
		if err := read(buf, off); err != nil {
			return Moved{}, err
		}
		want := spare.Get().(*[chunkBytes]byte)
		defer spare.Put(want)
		n := int64(len(buf))
		return Moved{Read: n, Done: n, Durable: n}, mismatch(buf, r.Pattern(want[:n], off), off)
	}}
	return s.run(ctx, r.walk(ctx, c))
}

// opVerify is the reading back.
const opVerify = "verify"

// mismatch compares what was read at off with what must be there.
func mismatch(got, want []byte, off int64) error {
	if bytes.Equal(got, want) {
		return nil
	}
	for i := range got {
		if got[i] != want[i] {
			return ioError(opVerify, off+int64(i), ErrMismatch)
		}
	}
	return nil
}

// uncache makes reads of f come from the device: by O_DIRECT, or, where the file
// system has none, because the cache was dropped. Nothing of f may be dirty.
// Changing the flag needs no second open, which a confined process may not do.
func uncache(f *os.File) (restore func(), err error) {
	dropCache(f, 0, 0)
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	if err != nil {
		return nil, ioError(opVerify, nowhere, err)
	}
	set := func(flags int) error {
		_, err := unix.FcntlInt(f.Fd(), unix.F_SETFL, flags)
		return err
	}
	if err := set(flags | unix.O_DIRECT); err != nil && !errors.Is(err, unix.EINVAL) {
		return nil, ioError(opVerify, nowhere, err)
	}
	return func() { _ = set(flags) }, nil // they were in force before
}

// readAligned reads all of buf, asking for whole pages as O_DIRECT wants them.
// buf is the beginning of a worker's buffer, which has room for them, since a
// chunk crosses no multiple of its size.
func readAligned(f *os.File, buf []byte, off int64) error {
	first := off &^ (alignment - 1)
	skip := int(off - first)
	whole := buf[:(skip+len(buf)+alignment-1)&^(alignment-1)]
	n, err := f.ReadAt(whole, first)
	if n >= skip+len(buf) {
		copy(buf, whole[skip:])
		return nil
	}
	if errors.Is(err, io.EOF) {
		err = ErrShrunk
	}
	return ioError(opVerify, first+int64(n), err)
}
