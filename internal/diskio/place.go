package diskio

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// PlaceSpec says which part of one file shall be which part of another.
type PlaceSpec struct {
	Dst, Src       *os.File
	DstOff, SrcOff int64 // bytes
	Len            int64 // bytes; both files have so many from there
	// Clean says that the target reads as zeros there, so that holes need not
	// be made.
	Clean bool
	// DetectZeros makes holes of data that is zeros.
	DetectZeros bool
	// Keep says that what was placed before an error or a cancel is of use: it
	// is made durable too.
	Keep bool
}

// PlaceStats is what Place, Receive or Send did. Sizes are bytes.
type PlaceStats struct {
	Bytes   int64  // of the content, from its start and without a gap: there and durable
	CRC32C  uint32 // of those
	Touched bool   // the target has changed, or may have, also where Bytes is 0
	Reach   int64  // bytes of the content behind which the target has not changed for certain
}

// reach is how far a content has come, also in parts that are not complete.
type reach struct{ atomic.Int64 }

// raise counts what lies before end.
func (r *reach) raise(end int64) {
	for at := r.Load(); at < end && !r.CompareAndSwap(at, end); {
		at = r.Load()
	}
}

// add adds the next n bytes.
func (s *PlaceStats) add(n int64, crc uint32) {
	s.CRC32C = crcJoin(s.CRC32C, crc, n)
	s.Bytes += n
}

// Place makes a part of Dst read as a part of Src and returns when that is
// durable. Holes are neither read nor written; what lay under them in the target
// is made zeros. The size of the target stays. A source that becomes shorter is
// ErrShrunk.
func Place(ctx context.Context, p *Pacer, spec PlaceSpec) (PlaceStats, error) {
	holes, err := newHoleMaker(p, spec.Dst, spec.Clean)
	if err != nil {
		return PlaceStats{}, err
	}
	c := &placing{PlaceSpec: spec, p: p, holes: holes}
	if err := flushSource(ctx, p, c.Src); err != nil {
		return PlaceStats{}, err
	}
	if err := c.measure(ctx); err != nil {
		return PlaceStats{}, err
	}
	c.flusher = newFlusher(p, c.Dst)
	defer c.flusher.stop()
	before := p.Counts().Written
	err = c.run(ctx)
	touched := holes.touched.Load() || p.Counts().Written > before
	if err != nil && !c.Keep {
		return PlaceStats{Touched: touched, Reach: c.reach.Load()}, err
	}
	stats, err := concludePlaced(ctx, c.flusher, err, func() PlaceStats { return PlaceStats{Bytes: c.ledger.whole, CRC32C: c.ledger.crc} })
	stats.Touched, stats.Reach = touched, c.reach.Load()
	return stats, err
}

// concludePlaced makes what was placed durable, also when it is not all: then
// done counts nevertheless. It gives the first error.
func concludePlaced(ctx context.Context, w *flusher, wrong error, done func() PlaceStats) (PlaceStats, error) {
	if wrong != nil {
		err := w.drain(context.WithoutCancel(ctx))
		if err == nil {
			err = syncFile(w.f) // not admitted: it may be paused for ever
		}
		if err != nil {
			return PlaceStats{}, wrong
		}
		return done(), wrong
	}
	if err := w.drain(ctx); err != nil {
		return PlaceStats{}, err
	}
	if err := fsync(ctx, w.p, w.f); err != nil {
		return PlaceStats{}, err
	}
	dropCache(w.f, 0, 0)
	return done(), nil
}

type placing struct {
	PlaceSpec
	p       *Pacer
	holes   *holeMaker
	flusher *flusher
	ledger  ledger
	reach   reach
}

// measure finds how much of the source is data, for an honest total, and that
// there is room for it.
func (c *placing) measure(ctx context.Context) error {
	holes := int64(0)
	err := walkRange(ctx, c.Src, c.part(), func(x extent) error {
		if x.hole {
			holes += x.len
		}
		return nil
	})
	c.p.Expect(c.Len, holes)
	if err != nil {
		return err
	}
	return c.checkRoom(ctx, c.Len-holes)
}

func (c *placing) part() extent { return extent{off: c.SrcOff, len: c.Len} }

func (c *placing) run(ctx context.Context) error {
	cache := newResidency(c.Src, c.SrcOff+c.Len)
	defer cache.close()
	s := streams{p: c.p, step: c.move, source: cache}
	return s.run(ctx, func(visit func(extent) error) error {
		return walkRange(ctx, c.Src, c.part(), func(x extent) error { return c.extent(ctx, x, visit) })
	})
}

// extent makes a hole, or else visits it as data, which reads as zeros.
func (c *placing) extent(ctx context.Context, x extent, visit func(extent) error) error {
	if x.hole {
		c.reach.raise(x.off + x.len - c.SrcOff)
		made, err := c.holes.make(ctx, extent{off: x.off - c.SrcOff + c.DstOff, len: x.len})
		if err != nil {
			return err
		}
		if made {
			c.ledger.add(x.off-c.SrcOff, x.len, crcOfZeros(x.len))
			return visit(x)
		}
		c.p.Expect(0, -x.len)
		x.hole = false
	}
	return visit(x)
}

// move is the step. Offsets are the source's.
func (c *placing) move(ctx context.Context, buf []byte, off int64) (Moved, error) {
	if err := readFull(c.Src, buf, off); err != nil {
		return Moved{}, err
	}
	c.reach.raise(off + int64(len(buf)) - c.SrcOff)
	m, err := place(ctx, c.flusher, c.holesIn(), buf, off-c.SrcOff+c.DstOff)
	m.Read = int64(len(buf))
	if err == nil {
		c.ledger.add(off-c.SrcOff, int64(len(buf)), crcOf(buf))
	}
	return m, err
}

// holesIn makes holes of zeros in data, nil: they are written.
func (c *placing) holesIn() *holeMaker {
	if c.DetectZeros {
		return c.holes
	}
	return nil
}

// zeroBlock is the unit in which zeros are looked for: file systems allocate in
// smaller blocks, and a hole that is smaller saves little and costs an extent.
const zeroBlock = 64 << 10

// place writes buf at off, but makes holes of zeros where holes is not nil. It
// is a part of a step that was admitted.
func place(ctx context.Context, w *flusher, holes *holeMaker, buf []byte, off int64) (Moved, error) {
	if holes == nil {
		return writeAndFlush(ctx, w, buf, off)
	}
	var all Moved
	for len(buf) > 0 {
		n, zero := zeroRun(buf, off, zeroBlock)
		m, err := placeStretch(ctx, w, holes, stretch{buf[:n], off, zero})
		all.Done += m.Done
		all.Durable += m.Durable
		all.Holes += m.Holes
		all.Written += m.Written
		if err != nil {
			return all, err
		}
		buf, off = buf[n:], off+int64(n)
	}
	return all, nil
}

// stretch is a part of a buffer, for its place in the file, that is zeros or
// not.
type stretch struct {
	buf  []byte
	off  int64
	zero bool
}

func placeStretch(ctx context.Context, w *flusher, holes *holeMaker, r stretch) (Moved, error) {
	n := int64(len(r.buf))
	if r.zero {
		made, err := holes.admitted(extent{off: r.off, len: n})
		if err != nil {
			return Moved{}, err
		}
		if made {
			return Moved{Done: n, Durable: n, Holes: n}, nil
		}
	}
	return writeAndFlush(ctx, w, r.buf, r.off)
}

// zeroRun gives how much of buf, which belongs at off, is of one kind, by whole
// blocks of that size: zeros or not.
func zeroRun(buf []byte, off, size int64) (n int, zero bool) {
	for n < len(buf) {
		block := min(len(buf)-n, int(size-(off+int64(n))%size))
		z := isZero(buf[n : n+block])
		if n > 0 && z != zero {
			return n, zero
		}
		zero = z
		n += block
	}
	return n, zero
}

func isZero(b []byte) bool { return string(b) == string(zeros[:len(b)]) }

// holeMaker makes parts of a file read as zeros without writing them.
type holeMaker struct {
	p     *Pacer
	f     *os.File
	clean bool
	mode  uint32 // of fallocate(2)

	device  bool        // no file
	flushed bool        // the map of its extents is true
	touched atomic.Bool // a hole was made, or some of it, or may have been
}

// newHoleMaker looks at the file. One that has all its space allocated keeps
// it: somebody has reserved that.
func newHoleMaker(p *Pacer, f *os.File, clean bool) (*holeMaker, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, ioError("stat", nowhere, err)
	}
	h := &holeMaker{p: p, f: f, clean: clean, mode: unix.FALLOC_FL_ZERO_RANGE | unix.FALLOC_FL_KEEP_SIZE}
	switch {
	case st.Mode&unix.S_IFMT == unix.S_IFBLK:
		h.device = true
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return nil, ioError("open", nowhere, fmt.Errorf("a target that is neither a file nor a block device: %w", ErrUnsupported))
	case st.Blocks*512 < st.Size: // stat(2): always units of 512
		h.mode = unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE
	}
	return h, nil
}

// errNoHoles says that the storage cannot make holes.
var errNoHoles = errors.New("no holes can be made here")

// make makes a hole. It is false where the storage cannot, and then some of it
// may have been made. What is a hole already costs nothing, however long it is.
func (h *holeMaker) make(ctx context.Context, x extent) (made bool, err error) {
	if _, err := h.p.Admit(ctx, 0); err != nil {
		return false, err
	}
	h.p.Finished(Moved{})
	if h.clean {
		return true, nil
	}
	if !h.flushed {
		if err := fsync(ctx, h.p, h.f); err != nil {
			return false, err
		}
		h.flushed = true
	}
	err = walkRange(ctx, h.f, x, func(x extent) error { return h.empty(ctx, x) })
	if errors.Is(err, errNoHoles) {
		return false, nil
	}
	return err == nil, err
}

// empty makes a hole of data, piece by piece.
func (h *holeMaker) empty(ctx context.Context, x extent) error {
	if x.hole {
		return nil
	}
	for end := x.off + x.len; x.off < end; x.off += allocatePiece {
		if _, err := h.p.Admit(ctx, 0); err != nil {
			return err
		}
		made, err := h.admitted(extent{off: x.off, len: min(allocatePiece, end-x.off)})
		h.p.Finished(Moved{})
		if err != nil {
			return err
		}
		if !made {
			return errNoHoles
		}
	}
	return nil
}

// admitted makes a hole in a step that was admitted.
func (h *holeMaker) admitted(x extent) (made bool, err error) {
	if h.clean {
		return true, nil
	}
	h.touched.Store(true)
	err = fallocate(h.f, h.mode, x.off, x.len)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) { // or not by these offsets
		return false, nil
	}
	return err == nil, ioError("zero", x.off, err)
}
