package diskio

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// PlaceSpec says which part of one content shall be which part of another.
type PlaceSpec struct {
	Dst, Src       Content
	DstOff, SrcOff int64 // bytes
	Len            int64 // bytes; both have so many from there
	// Clean says that the target reads as zeros there, so that holes need not
	// be made.
	Clean bool
	// DetectZeros makes holes of data that is zeros.
	DetectZeros bool
	// Keep says that what was placed before an error or a cancel is of use: it
	// is made durable too.
	Keep bool
	// Hash is of the content, which has to be read in order for it, and is kept;
	// nil: of no use.
	Hash hash.Hash
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
	spec.DetectZeros = spec.DetectZeros || sifted(spec.Dst, spec.Clean)
	c := &placing{PlaceSpec: spec, p: p, holes: holes}
	if err := flushSource(ctx, p, c.Src); err != nil {
		return PlaceStats{}, err
	}
	if c.Hash != nil {
		return c.inOrder(ctx)
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

// inOrder is Place of one part after the other.
func (c *placing) inOrder(ctx context.Context) (PlaceStats, error) {
	c.p.Expect(c.Len, 0)
	if err := c.checkRoom(ctx, c.Len); err != nil {
		return PlaceStats{}, err
	}
	from := newReading(c.p, c.Src, c.SrcOff+c.Len)
	defer from.cache.close()
	from.free = true
	to := &receiving{p: c.p, holes: c.holes, ReceiveSpec: ReceiveSpec{Dst: c.Dst, Off: c.DstOff, Want: c.Len, DetectZeros: c.DetectZeros, Hash: c.Hash}}
	return to.all(ctx, func(ctx context.Context) error {
		write := func(buf []byte) error { return to.write(ctx, buf) }
		return walk(ctx, c.Src, c.part(), func(x Extent) error {
			if x.Kind != Data {
				return to.hole(ctx, x.Len)
			}
			return from.each(ctx, x, write)
		})
	})
}

// concludePlaced makes what was placed durable, also when it is not all: then
// done counts nevertheless. It gives the first error.
func concludePlaced(ctx context.Context, w *flusher, wrong error, done func() PlaceStats) (PlaceStats, error) {
	if e, ok := errors.AsType[*IOError](wrong); ok && e.Op == opSync {
		return PlaceStats{}, wrong // another one would say yes
	}
	if wrong != nil {
		err := w.drain(context.WithoutCancel(ctx))
		if err == nil {
			err = flushNow(w.c) // not admitted: it may be paused for ever
		}
		if err != nil {
			return PlaceStats{}, wrong
		}
		return done(), wrong
	}
	if err := w.drain(ctx); err != nil {
		return PlaceStats{}, err
	}
	if err := flush(ctx, w.p, w.c); err != nil {
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
	data, err := measure(ctx, c.Src, c.part(), Zero)
	c.p.Expect(c.Len, c.Len-data)
	if err != nil {
		return err
	}
	return c.checkRoom(ctx, data)
}

func (c *placing) part() Extent { return Extent{Off: c.SrcOff, Len: c.Len} }

func (c *placing) run(ctx context.Context) error {
	cache := newResidency(c.Src, c.SrcOff+c.Len)
	defer cache.close()
	s := streams{p: c.p, step: c.move, source: cache, requests: requests(c.Src, c.Dst)}
	return s.run(ctx, func(visit func(Extent) error) error {
		return walk(ctx, c.Src, c.part(), func(x Extent) error { return c.extent(ctx, x, visit) })
	})
}

// extent makes a hole, or else visits it as data, which reads as zeros.
func (c *placing) extent(ctx context.Context, x Extent, visit func(Extent) error) error {
	if x.Kind != Data {
		c.reach.raise(x.Off + x.Len - c.SrcOff)
		made, err := c.holes.make(ctx, Extent{Off: x.Off - c.SrcOff + c.DstOff, Len: x.Len})
		if err != nil {
			return err
		}
		if made {
			c.ledger.add(x.Off-c.SrcOff, x.Len, crcOfZeros(x.Len))
			return visit(x)
		}
		c.p.Expect(0, -x.Len)
		x.Kind = Data
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
		made, err := holes.admitted(Extent{Off: r.off, Len: n})
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

// holeMaker makes parts of a content read as zeros without writing them.
type holeMaker struct {
	p     *Pacer
	c     Content
	clean bool
	unmap bool // their storage is given back

	flushed bool        // the map of its extents is true
	touched atomic.Bool // a hole was made, or some of it, or may have been
}

// newHoleMaker looks at the content. A file that has all its space allocated
// keeps it: somebody has reserved that. So does a device, but a thin one.
func newHoleMaker(p *Pacer, c Content, clean bool) (*holeMaker, error) {
	h := &holeMaker{p: p, c: c, clean: clean, unmap: true}
	f := FileOf(c)
	if f == nil {
		return h, nil
	}
	st, err := statOf(f)
	if kind := st.Mode & unix.S_IFMT; err == nil && kind != unix.S_IFBLK && kind != unix.S_IFREG {
		err = ioError("open", nowhere, fmt.Errorf("a target that is neither a file nor a block device: %w", ErrUnsupported))
	}
	if _, ok := c.(thin); !ok {
		h.unmap = st.Mode&unix.S_IFMT == unix.S_IFREG && st.Blocks*blockUnit < st.Size
	}
	return h, err
}

// sifted reports whether zeros are left out of what is written in any case: of a new thin
// device.
func sifted(dst Content, clean bool) bool {
	_, ok := dst.(thin)
	return ok && clean
}

// errNoHoles says that the storage cannot make holes.
var errNoHoles = errors.New("no holes can be made here")

// make makes a hole. It is false where the storage cannot, and then some of it
// may have been made. What is a hole already costs nothing, however long it is.
func (h *holeMaker) make(ctx context.Context, x Extent) (made bool, err error) {
	if _, err := h.p.Admit(ctx, 0); err != nil {
		return false, err
	}
	h.p.Finished(Moved{})
	if h.clean {
		return true, nil
	}
	if !h.flushed {
		if err := flush(ctx, h.p, h.c); err != nil {
			return false, err
		}
		h.flushed = true
	}
	err = walk(ctx, h.c, x, func(x Extent) error { return h.empty(ctx, x) })
	if errors.Is(err, errNoHoles) {
		return false, nil
	}
	return err == nil, err
}

// empty makes a hole of data, piece by piece.
func (h *holeMaker) empty(ctx context.Context, x Extent) error {
	if x.Kind != Data {
		return nil
	}
	for end := x.Off + x.Len; x.Off < end; x.Off += allocatePiece {
		if _, err := h.p.Admit(ctx, 0); err != nil {
			return err
		}
		made, err := h.admitted(Extent{Off: x.Off, Len: min(allocatePiece, end-x.Off)})
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
func (h *holeMaker) admitted(x Extent) (made bool, err error) {
	if h.clean {
		return true, nil
	}
	h.touched.Store(true)
	err = h.c.Zero(x.Off, x.Len, h.unmap)
	if errors.Is(err, ErrUnsupported) {
		return false, nil
	}
	return err == nil, ioError("zero", x.Off, err)
}
