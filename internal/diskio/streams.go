package diskio

import (
	"context"
	"sync"
)

const (
	// chunkBytes is what one system call moves.
	chunkBytes = 1 << 20
	// workers keep the device and the copying between kernel and us busy at
	// the same time; more of them measured no faster.
	workers = 3
)

// step moves the n bytes at off, with buf of that length, and says what it did.
type step func(ctx context.Context, buf []byte, off int64) (Moved, error)

// streams runs one step per chunk, several at a time.
type streams struct {
	p    *Pacer
	step step
}

// run gives the data extents that walk visits to the workers, chunk by chunk,
// and returns when the last step has ended, with the first error.
func (s streams) run(ctx context.Context, walk func(visit func(extent) error) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	chunks := make(chan extent) // closed below, after the last chunk
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			if err := s.work(ctx, chunks); err != nil {
				cancel(err)
			}
		})
	}
	err := walk(func(x extent) error { return s.deal(ctx, chunks, x) })
	if err != nil {
		cancel(err)
	}
	close(chunks)
	group.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// deal cuts x at multiples of the chunk size, so that all but the first and
// last chunk of an extent are aligned.
func (s streams) deal(ctx context.Context, chunks chan<- extent, x extent) error {
	if x.hole {
		s.p.skip(x.len)
		return nil
	}
	for end := x.off + x.len; x.off < end; {
		x.len = min(end, (x.off/chunkBytes+1)*chunkBytes) - x.off
		select {
		case chunks <- x:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		x.off += x.len
	}
	return nil
}

func (s streams) work(ctx context.Context, chunks <-chan extent) error {
	buf := alignedBuffer(chunkBytes)
	for {
		select {
		case <-ctx.Done():
			return nil
		case x, ok := <-chunks:
			if !ok {
				return nil
			}
			if err := s.moveAll(ctx, buf, x); err != nil {
				return err
			}
		}
	}
}

// moveAll moves one chunk, in smaller ones under a limit.
func (s streams) moveAll(ctx context.Context, buf []byte, x extent) error {
	for x.len > 0 {
		n, err := s.p.Admit(ctx, x.len)
		if err != nil {
			return err
		}
		moved, err := s.step(ctx, buf[:n], x.off)
		s.p.Finished(moved)
		if err != nil {
			return err
		}
		x.off += n
		x.len -= n
	}
	return nil
}
