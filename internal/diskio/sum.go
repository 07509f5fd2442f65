package diskio

import (
	"context"
	"crypto/sha256"
	"hash"
	"os"
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
	size, err := fileSize(f)
	if err != nil {
		return SumStats{}, err
	}
	if err := flushSource(ctx, p, f); err != nil {
		return SumStats{}, err
	}
	s := &summing{p: p, f: f, hash: sha256.New(), buf: alignedBuffer(chunkBytes)}
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
}

func (s *summing) extent(ctx context.Context, x extent) error {
	if x.hole {
		return s.zeros(ctx, x)
	}
	for x.len > 0 {
		c := x.cut()
		s.cache.reach(c.off)
		if err := s.data(ctx, c); err != nil {
			return err
		}
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
	}
	return nil
}
