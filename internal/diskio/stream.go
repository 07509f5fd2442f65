package diskio

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
)

// ErrTooLong says that a stream gave more than there is room for.
var ErrTooLong = errors.New("the content is longer than the room for it")

// ErrTooShort says that a stream gave less than it should.
var ErrTooShort = errors.New("the content is shorter than it should be")

// Stream is a content in order, by extents. Next goes to the next one and
// gives its length and whether it is a hole, which is not read; io.EOF is the
// end. Read reads data of the current extent up to its io.EOF. It may block; who
// cancels the context has to end that too.
type Stream interface {
	Next() (n int64, hole bool, err error)
	io.Reader
}

// Sink takes a content in order.
type Sink interface {
	io.Writer
	Hole(n int64) error
}

// ReceiveSpec says where a content goes.
type ReceiveSpec struct {
	Dst  Content
	Off  int64 // bytes
	From Stream
	// Max is how many bytes there is room for. More is ErrTooLong, and of the
	// extent that is too long nothing is written.
	Max int64
	// Want is how many bytes must come, -1 for any number.
	Want int64
	// Dense says that no holes come.
	Dense       bool
	Clean       bool // as in PlaceSpec
	DetectZeros bool
	Hash        hash.Hash // of the content; nil: of no use
}

// Receive writes a stream into a content. Whatever comes in between, an error or
// a cancel, what was written by then is made durable, and counted: a content can
// go on there. While it waits for the sender, it does no I/O and counts as
// paused when it is.
func Receive(ctx context.Context, p *Pacer, spec ReceiveSpec) (PlaceStats, error) {
	holes, err := newHoleMaker(p, spec.Dst, spec.Clean)
	if err != nil {
		return PlaceStats{}, err
	}
	spec.DetectZeros = spec.DetectZeros || sifted(spec.Dst, spec.Clean)
	if spec.Want >= 0 {
		p.Expect(spec.Want, 0)
	}
	if spec.Want >= 0 && spec.Dense && !spec.DetectZeros {
		if err := checkOverwrite(ctx, spec.Dst, Extent{Off: spec.Off, Len: spec.Want}, 0); err != nil {
			return PlaceStats{}, err
		}
	}
	r := &receiving{ReceiveSpec: spec, p: p, holes: holes, buf: alignedBuffer(chunkBytes)}
	return r.all(ctx, r.run)
}

type receiving struct {
	ReceiveSpec
	p       *Pacer
	holes   *holeMaker
	flusher *flusher
	buf     []byte
	stats   PlaceStats
	reach   int64 // as in PlaceStats
}

// all writes what run gives, and makes it durable.
func (r *receiving) all(ctx context.Context, run func(ctx context.Context) error) (PlaceStats, error) {
	r.flusher = newFlusher(r.p, r.Dst)
	defer r.flusher.stop()
	before := r.p.Counts().Written
	err := run(ctx)
	touched := r.holes.touched.Load() || r.p.Counts().Written > before
	stats, err := concludePlaced(ctx, r.flusher, err, func() PlaceStats { return r.stats })
	stats.Touched, stats.Reach = touched, r.reach
	return stats, err
}

func (r *receiving) run(ctx context.Context) error {
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, hole, err := r.From.Next()
		switch {
		case err == io.EOF && r.Want >= 0 && r.stats.Bytes < r.Want:
			return fmt.Errorf("%w: %d bytes came, not %d", ErrTooShort, r.stats.Bytes, r.Want)
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		case n > r.Max-r.stats.Bytes || r.Want >= 0 && n > r.Want-r.stats.Bytes:
			return ErrTooLong
		case hole:
			err = r.hole(ctx, n)
		default:
			err = r.data(ctx, n)
		}
		if err != nil {
			return err
		}
	}
}

// hole makes one, or writes zeros where there cannot be one.
func (r *receiving) hole(ctx context.Context, n int64) error {
	r.reach = r.stats.Bytes + n
	made, err := r.holes.make(ctx, Extent{Off: r.Off + r.stats.Bytes, Len: n})
	if err != nil {
		return err
	}
	if made {
		moved := Moved{Done: n, Durable: n, Holes: n}
		if r.Want >= 0 {
			r.p.Expect(0, n)
			moved.Light = n
		}
		r.p.account(moved)
		r.stats.add(n, crcOfZeros(n))
		return hashZeros(ctx, r.Hash, n)
	}
	for n > 0 {
		some := min(n, chunkBytes)
		if err := r.write(ctx, zeros[:some]); err != nil {
			return err
		}
		n -= some
	}
	return nil
}

// hashZeros hashes n zeros, if there is a hash, which takes as long as hashing
// data.
func hashZeros(ctx context.Context, h hash.Hash, n int64) error {
	for h != nil && n > 0 {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		some := min(n, chunkBytes)
		h.Write(zeros[:some])
		n -= some
	}
	return nil
}

// data writes n bytes as they come: who sends slowly sees them written all the
// same.
func (r *receiving) data(ctx context.Context, n int64) error {
	for n > 0 {
		some, err := r.From.Read(r.buf[:min(n, chunkBytes)])
		if some > 0 {
			if err := r.write(ctx, r.buf[:some]); err != nil {
				return err
			}
			n -= int64(some)
			continue
		}
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// write writes a buffer, in smaller parts under a limit.
func (r *receiving) write(ctx context.Context, buf []byte) error {
	holes := r.holes
	if !r.DetectZeros {
		holes = nil
	}
	for len(buf) > 0 {
		n, err := r.p.Admit(ctx, int64(len(buf)))
		if err != nil {
			return err
		}
		r.reach = r.stats.Bytes + n
		m, err := place(ctx, r.flusher, holes, buf[:n], r.Off+r.stats.Bytes)
		r.p.Finished(m)
		if err != nil {
			return err
		}
		r.stats.add(n, crcOf(buf[:n]))
		if r.Hash != nil {
			r.Hash.Write(buf[:n])
		}
		buf = buf[n:]
	}
	return nil
}

// SendSpec says what is sent.
type SendSpec struct {
	Src  Content
	Off  int64 // bytes
	Len  int64
	To   Sink
	Hash hash.Hash // of the content; nil: of no use
}

// Send gives a part of a content to a sink, in order. Bytes count as durable when
// the sink has taken them. While it waits for the sink it does no I/O.
func Send(ctx context.Context, p *Pacer, spec SendSpec) (PlaceStats, error) {
	if err := flushSource(ctx, p, spec.Src); err != nil {
		return PlaceStats{}, err
	}
	p.Expect(spec.Len, 0)
	s := &sending{SendSpec: spec, p: p}
	from := newReading(p, spec.Src, spec.Off+spec.Len)
	defer from.cache.close()
	err := walk(ctx, s.Src, Extent{Off: s.Off, Len: s.Len}, func(x Extent) error {
		if x.Kind != Data {
			return s.hole(ctx, x.Len)
		}
		return from.each(ctx, x, s.data)
	})
	return s.stats, err
}

type sending struct {
	SendSpec
	p     *Pacer
	stats PlaceStats
}

func (s *sending) hole(ctx context.Context, n int64) error {
	if _, err := s.p.Admit(ctx, 0); err != nil {
		return err
	}
	s.p.Finished(Moved{})
	if err := s.To.Hole(n); err != nil {
		return err
	}
	s.p.account(Moved{Done: n, Durable: n, Holes: n})
	s.stats.add(n, crcOfZeros(n))
	return hashZeros(ctx, s.Hash, n)
}

func (s *sending) data(buf []byte) error {
	if _, err := s.To.Write(buf); err != nil {
		return err
	}
	n := int64(len(buf))
	s.p.account(Moved{Done: n, Durable: n})
	s.stats.add(n, crcOf(buf))
	if s.Hash != nil {
		s.Hash.Write(buf)
	}
	return nil
}
