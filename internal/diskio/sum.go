package diskio

import (
	"context"
	"crypto/sha256"
	"encoding"
	"fmt"
	"hash"
	"os"
	"time"
)

// SumStats is the checksum of a content. Sizes are bytes.
type SumStats struct {
	SHA256 [sha256.Size]byte
	Bytes  int64
	Holes  int64 // of Bytes: hashed as zeros, not read
}

// Sum hashes the whole content. Holes are hashed from memory, and what was not
// in the page cache before is not there after. Nothing is changed, except that
// dirty data is written back first.
func Sum(ctx context.Context, p *Pacer, f *os.File) (SumStats, error) {
	return SumFrom(ctx, p, f, SumCheckpoints{})
}

// SumCheckpoints lets a sum begin where an earlier one of the same, unchanged
// content was interrupted. State is the hash of what came before From.
type SumCheckpoints struct {
	From  int64
	State []byte
	// Save is told how far the sum is, and the state of the hash there, which
	// it may keep.
	Save  func(done int64, state []byte)
	Every time.Duration // between two calls; 0 is a few seconds
}

// SumFrom is Sum from a checkpoint on. A state that is none is an error.
func SumFrom(ctx context.Context, p *Pacer, f *os.File, c SumCheckpoints) (SumStats, error) {
	size, err := fileSize(f)
	if err != nil {
		return SumStats{}, err
	}
	if err := flushSource(ctx, p, f); err != nil {
		return SumStats{}, err
	}
	s := &summing{p: p, f: f, hash: sha256.New(), buf: alignedBuffer(chunkBytes), keep: c, told: time.Now()}
	if err := s.restore(size); err != nil {
		return SumStats{}, err
	}
	s.cache = newResidency(f, size)
	defer s.cache.close()
	p.expect(size, 0) // hashing zeros takes as long as hashing data
	if err := walkExtents(ctx, f, size, func(x extent) error { return s.extent(ctx, x) }); err != nil {
		return SumStats{}, err
	}
	s.hash.Sum(s.stats.SHA256[:0])
	s.stats.Bytes = size
	return s.stats, nil
}

type summing struct {
	p     *Pacer
	f     *os.File
	hash  hash.Hash
	buf   []byte
	cache *residency
	stats SumStats
	keep  SumCheckpoints
	told  time.Time // of the last checkpoint
}

// restore puts the hash where an earlier sum had it.
func (s *summing) restore(size int64) error {
	if s.keep.From == 0 {
		return nil
	}
	if s.keep.From < 0 || s.keep.From > size {
		return fmt.Errorf("a sum cannot go on at byte %d of %d", s.keep.From, size)
	}
	if err := s.hash.(encoding.BinaryUnmarshaler).UnmarshalBinary(s.keep.State); err != nil {
		return fmt.Errorf("a sum cannot go on: %w", err)
	}
	return nil
}

// checkpoint tells how far the sum is, from time to time.
func (s *summing) checkpoint(done int64) {
	if s.keep.Save == nil || time.Since(s.told) < (Checkpoints{Every: s.keep.Every}).next(0) {
		return
	}
	state, err := s.hash.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil {
		panic("internal error: SHA-256 does not give its state: " + err.Error())
	}
	s.keep.Save(done, state)
	s.told = time.Now()
}

// extent hashes an extent, without what was hashed before.
func (s *summing) extent(ctx context.Context, x extent) error {
	if n := min(s.keep.From-x.off, x.len); n > 0 {
		s.p.account(Moved{Done: n, Durable: n})
		x.off += n
		x.len -= n
	}
	if x.hole {
		return s.zeros(ctx, x)
	}
	for x.len > 0 {
		c := x.cut()
		s.cache.reach(c.off)
		if err := s.data(ctx, c); err != nil {
			return err
		}
		s.checkpoint(c.off + c.len)
	}
	return nil
}

func (s *summing) data(ctx context.Context, c chunk) error {
	for c.len > 0 {
		n, err := s.p.Admit(ctx, c.len)
		if err != nil {
			return err
		}
		err = readFull(s.f, s.buf[:n], c.off)
		if err != nil {
			s.p.Finished(Moved{})
			return err
		}
		s.hash.Write(s.buf[:n])
		s.p.Finished(Moved{Done: n, Durable: n, Read: n})
		c.off += n
		c.len -= n
	}
	return nil
}

// zeros hashes a hole, which spends nothing of the limit, for it is not read.
func (s *summing) zeros(ctx context.Context, x extent) error {
	for x.len > 0 {
		if _, err := s.p.Admit(ctx, 0); err != nil {
			return err
		}
		c := x.cut()
		s.hash.Write(zeros[:c.len])
		s.stats.Holes += c.len
		s.p.Finished(Moved{Done: c.len, Durable: c.len, Holes: c.len})
		s.checkpoint(c.off + c.len)
	}
	return nil
}
