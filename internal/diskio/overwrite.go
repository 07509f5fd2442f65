package diskio

import "context"

// ChunkBytes is the most that a Pattern is asked for at once.
const ChunkBytes = chunkBytes

// Pattern gives what belongs at off, len(buf) bytes: buf itself, filled, or a
// part of what all chunks share, which nobody may change. The same range always
// gets the same bytes, so that it can be verified. It is safe for concurrent use.
type Pattern func(buf []byte, off int64) []byte

// Round is one going over all of a content. It counts what it goes
// over; its maker has told the Pacer what there is.
type Round struct {
	Pattern   Pattern
	Size      int64
	SkipHoles bool  // leave alone what has no storage
	Before    int64 // bytes of the phase that came before, in earlier rounds
	Checkpoints
}

// walk visits what is gone over; all of it is data unless holes are skipped.
func (r Round) walk(ctx context.Context, c Content) func(visit func(Extent) error) error {
	return func(visit func(Extent) error) error {
		if !r.SkipHoles {
			return visit(Extent{Len: r.Size})
		}
		return walkAllocated(ctx, c, r.Size, func(x Extent) error {
			if x.Kind == Zero {
				x.Kind = Data
			}
			return visit(x)
		})
	}
}

func (r Round) checkpointer(sync func(context.Context) error) *checkpointer {
	return &checkpointer{Checkpoints: r.Checkpoints, base: r.Before, sync: sync}
}

// Overwrite writes the pattern and waits until the device has it. After an error
// or a cancel nothing of ours is dirty any more.
func Overwrite(ctx context.Context, p *Pacer, c Content, r Round) error {
	// Nobody needs the old content, and what came into the cache in small pieces
	// would be written back piece by piece.
	dropCache(FileOf(c), 0, 0)
	return synced(ctx, p, c, r.overwrite(ctx, p, c))
}

func (r Round) overwrite(ctx context.Context, p *Pacer, c Content) error {
	flusher := newFlusher(p, c)
	defer flusher.stop()
	s := streams{p: p, requests: requests(c), keep: r.checkpointer(syncWith(p, flusher)), step: func(ctx context.Context, buf []byte, off int64) (Moved, error) {
		return writeAndFlush(ctx, flusher, r.Pattern(buf, off), off)
	}}
	if err := s.run(ctx, r.walk(ctx, c)); err != nil {
		return err
	}
	return flusher.drain(ctx)
}

// synced makes durable what was done to c. After a cancel it does so without
// asking the Pacer; after any other error, which is final, fsync would lie.
func synced(ctx context.Context, p *Pacer, c Content, err error) error {
	switch {
	case err == nil:
		return flush(ctx, p, c)
	case ctx.Err() != nil:
		_ = flushNow(c) // after it no I/O goes on
	}
	return err
}

// RoomToOverwrite is a NoRoomError if there is no room for the blocks that c
// lacks and that writing all of it but the holes that are skipped needs.
func RoomToOverwrite(ctx context.Context, c Content, size, skipped int64) error {
	return checkOverwrite(ctx, c, Extent{Len: size}, skipped)
}
