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
		read = func(buf []byte, off int64) error { return readAligned(opVerify, f, buf, off) }
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
func uncache(f *os.File) (restore func(), err error) {
	dropCache(f, 0, 0)
	restore, err = passCache(f)
	if errors.Is(err, unix.EINVAL) {
		return func() {}, nil
	}
	return restore, ioError(opVerify, nowhere, err)
}

// passCache sets O_DIRECT, EINVAL where the file system has none. Changing the flag
// needs no second open, which a confined process may not do.
func passCache(f *os.File) (restore func(), err error) {
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	if err == nil {
		_, err = unix.FcntlInt(f.Fd(), unix.F_SETFL, flags|unix.O_DIRECT)
	}
	return func() { _, _ = unix.FcntlInt(f.Fd(), unix.F_SETFL, flags) }, err // they were in force before
}

// readAligned reads all of buf, asking for whole pages as O_DIRECT wants them.
// buf is the beginning of a worker's buffer, which has room for them, since a
// chunk crosses no multiple of its size.
func readAligned(op string, f *os.File, buf []byte, off int64) error {
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
	return ioError(op, first+int64(n), err)
}
