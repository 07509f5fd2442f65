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
	for x.len > 0 {
		n, err := s.chunk(ctx, x)
		if err != nil {
			return err
		}
		x.off += n
		x.len -= n
	}
	return nil
}

// chunk hashes the beginning of x and gives how much that was. A hole spends
// nothing of the limit, for it is not read.
func (s *summing) chunk(ctx context.Context, x extent) (int64, error) {
	n := min(x.len, chunkBytes)
	if x.hole {
		if _, err := s.p.Admit(ctx, 0); err != nil {
			return 0, err
		}
		s.hash.Write(zeros[:n])
		s.stats.Holes += n
		s.p.Finished(Moved{Done: n, Durable: n, Holes: n})
		return n, nil
	}
	n, err := s.p.Admit(ctx, n)
	if err != nil {
		return 0, err
	}
	m := Moved{}
	defer func() { s.p.Finished(m) }()
	if err := s.cache.read(s.buf[:n], x.off); err != nil {
		return 0, err
	}
	s.hash.Write(s.buf[:n])
	m = Moved{Done: n, Durable: n, Read: n}
	return n, nil
}
