package diskio

import (
	"context"
	"slices"
	"time"
)

// Bounds of how much is pulled at a time, bytes. What is under way is waited for by a
// pause, a cancel and a checkpoint: it grows as long as it takes no time to speak of.
const (
	leastPull = 4 << 20
	mostPull  = 128 << 20
	// quickPull and slowPull are between what it is to take.
	quickPull = 50 * time.Millisecond
	slowPull  = 200 * time.Millisecond
)

// pulling copies the data of a source without its passing through this process.
type pulling struct {
	*copying
	keep *checkpointer
	size int64    // bytes to be pulled at a time
	list []Extent // to be pulled next
	n    int64    // bytes of it
	buf  []byte   // of what is not pulled, nil until it is needed
}

// pull moves the extents that walk visits.
func (c *copying) pull(ctx context.Context, keep *checkpointer) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := keep.start(ctx, cancel)
	s := &pulling{copying: c, keep: keep, size: leastPull}
	err := c.walk(ctx)(func(x Extent) error { return s.deal(ctx, x) })
	if err == nil {
		err = s.settle(ctx)
	}
	stop()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// deal takes an extent, without what is in place already.
func (s *pulling) deal(ctx context.Context, x Extent) error {
	if x.Kind != Data {
		s.p.skip(x.Len)
		s.keep.pass(x.End())
		return nil
	}
	if n := min(s.keep.from()-x.Off, x.Len); n > 0 {
		s.p.account(Moved{Done: n, Durable: n})
		x.Off, x.Len = x.Off+n, x.Len-n
	}
	for x.Len > 0 {
		next := Extent{Off: x.Off, Len: min(x.Len, s.size-s.n)}
		if s.n == 0 {
			s.keep.deal(next.Off)
		}
		s.list, s.n = append(s.list, next), s.n+next.Len
		x.Off, x.Len = x.Off+next.Len, x.Len-next.Len
		s.keep.pass(x.Off)
		if s.n < s.size {
			return nil
		}
		if err := s.settle(ctx); err != nil {
			return err
		}
	}
	return nil
}

// settle moves what is in the list.
func (s *pulling) settle(ctx context.Context) error {
	if s.n == 0 {
		return nil
	}
	first := s.list[0].Off
	for s.n > 0 {
		n, err := s.p.Admit(ctx, s.n)
		if err != nil {
			return err
		}
		some := s.take(n)
		moved, err := s.move(ctx, some, n)
		s.p.Finished(moved)
		if err != nil {
			return err
		}
	}
	s.keep.done(first)
	return nil
}

// take takes the first n bytes off the list.
func (s *pulling) take(n int64) (some []Extent) {
	s.n -= n
	for n > 0 {
		x := &s.list[0]
		part := Extent{Off: x.Off, Len: min(x.Len, n)}
		some, n = append(some, part), n-part.Len
		x.Off, x.Len = x.Off+part.Len, x.Len-part.Len
		if x.Len == 0 {
			s.list = s.list[1:]
		}
	}
	return some
}

// move pulls extents. Few bytes, under a limit, go through this process, and so does
// all from the first that cannot be pulled on: that tells where the trouble is, and with
// which of both.
func (s *pulling) move(ctx context.Context, some []Extent, n int64) (Moved, error) {
	if s.Pull != nil && (n >= leastPull || s.p.Limit() == 0) {
		begun := time.Now()
		if s.Pull(some) == nil {
			s.adapt(time.Since(begun))
			return Moved{Done: n, Durable: n, Read: n, Written: n}, nil
		}
		s.Pull = nil
	}
	return s.carry(ctx, some)
}

// adapt makes the next pull longer or shorter by how long one took.
func (s *pulling) adapt(took time.Duration) {
	switch {
	case took < quickPull:
		s.size = min(2*s.size, mostPull)
	case took > slowPull:
		s.size = max(s.size/2, leastPull)
	}
}

// carry moves extents through this process.
func (s *pulling) carry(ctx context.Context, some []Extent) (moved Moved, err error) {
	if s.buf == nil {
		s.buf = alignedBuffer(chunkBytes)
	}
	for _, x := range slices.Clone(some) {
		for x.Len > 0 && err == nil {
			if ctx.Err() != nil {
				return moved, context.Cause(ctx)
			}
			var m Moved
			c := x.cut()
			m, err = s.moveChunk(ctx, s.buf[:c.len], c.off)
			moved.Read, moved.Written = moved.Read+m.Read, moved.Written+m.Written
		}
	}
	return moved, err
}
