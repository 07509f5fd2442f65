package diskio

import (
	"context"
	"sync"
)

const (
	// chunkBytes is what one system call moves. Smaller ones cost measurably
	// more, larger ones gain nothing.
	chunkBytes = 1 << 20
	// workers keep a device and the copying between kernel and us busy at the
	// same time; a fourth measured no faster.
	workers = 3
)

// chunk is a part of a data extent of at most chunkBytes that does not cross a
// multiple of it.
type chunk struct {
	off, len int64
}

// step moves the len(buf) bytes at off and says what it did.
type step func(ctx context.Context, buf []byte, off int64) (Moved, error)

// streams runs one step per chunk, several at a time.
type streams struct {
	p        *Pacer
	step     step
	source   *residency // of the file that the steps read; nil if there is none
	keep     *checkpointer
	requests int // under way at a time
}

// run gives the data extents that walk visits to the workers, chunk by chunk,
// and returns when the last step has ended, with the first error.
func (s streams) run(ctx context.Context, walk func(visit func(Extent) error) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := s.keep.start(ctx, cancel)
	chunks := make(chan chunk) // closed below, after the last chunk
	var group sync.WaitGroup
	for range s.requests {
		group.Go(func() {
			if err := s.work(ctx, chunks); err != nil {
				cancel(err)
			}
		})
	}
	err := walk(func(x Extent) error { return s.deal(ctx, chunks, x) })
	if err != nil {
		cancel(err)
	}
	close(chunks)
	group.Wait()
	stop()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// deal cuts x into chunks, without what is in place already.
func (s streams) deal(ctx context.Context, chunks chan<- chunk, x Extent) error {
	if x.Kind != Data {
		s.p.skip(x.Len)
		s.keep.pass(x.Off + x.Len)
		return nil
	}
	if n := min(s.keep.from()-x.Off, x.Len); n > 0 {
		s.p.account(Moved{Done: n, Durable: n})
		x.Off += n
		x.Len -= n
	}
	for x.Len > 0 {
		c := x.cut()
		s.source.reach(c.off)
		s.keep.deal(c.off)
		select {
		case chunks <- c:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		s.keep.pass(c.off + c.len)
	}
	return nil
}

// cut takes the first chunk off x.
func (x *Extent) cut() chunk {
	c := chunk{off: x.Off, len: min(x.Len, chunkBytes-x.Off%chunkBytes)}
	x.Off += c.len
	x.Len -= c.len
	return c
}

func (s streams) work(ctx context.Context, chunks <-chan chunk) error {
	buf := alignedBuffer(chunkBytes)
	for {
		select {
		case <-ctx.Done():
			return nil
		case c, ok := <-chunks:
			if !ok {
				return nil
			}
			if err := s.moveAll(ctx, buf, c); err != nil {
				return err
			}
			s.keep.done(c.off)
		}
	}
}

// moveAll moves one chunk, in smaller ones under a limit.
func (s streams) moveAll(ctx context.Context, buf []byte, c chunk) error {
	for c.len > 0 {
		n, err := s.p.Admit(ctx, c.len)
		if err != nil {
			return err
		}
		moved, err := s.step(ctx, buf[:n], c.off)
		s.p.Finished(moved)
		if err != nil {
			return err
		}
		c.off += n
		c.len -= n
	}
	return nil
}
