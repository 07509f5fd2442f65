package diskio

import (
	"context"
	"fmt"
	"time"
)

// SumSpec says which checksum is taken, and lets it begin where an earlier one
// of the same, unchanged content was interrupted.
type SumSpec struct {
	CRC32C bool  // instead of SHA-256
	Len    int64 // bytes from the start, at most; 0 is all
	From   int64 // State is the checksum of what comes before
	State  []byte
	// Save is told how far the sum is, and its state there, which it may keep.
	Save  func(done int64, state []byte)
	Every time.Duration // between two calls; 0 is a few seconds
}

// SumStats is the checksum of a content. Sizes are bytes.
type SumStats struct {
	Sum   []byte // 32 bytes of SHA-256, or 4 of CRC-32C, the most significant first
	Bytes int64
	Holes int64 // of Bytes: taken as zeros, not read
}

// Sum takes the checksum of the content. Holes are not read: SHA-256
// hashes zeros from memory in their place, CRC-32C leaps over them. What was not
// in the page cache before is not there after. Nothing is changed, except that
// dirty data is written back first. A state that is none is an error.
func Sum(ctx context.Context, p *Pacer, c Content, spec SumSpec) (SumStats, error) {
	size, err := contentSize(c)
	if err != nil {
		return SumStats{}, err
	}
	if spec.Len > 0 {
		size = min(size, spec.Len)
	}
	if err := flushSource(ctx, p, c); err != nil {
		return SumStats{}, err
	}
	s := &summing{SumSpec: spec, p: p, c: c, size: size, sum: spec.checksum(), told: time.Now()}
	if err := s.resume(); err != nil {
		return SumStats{}, err
	}
	if err := s.measure(ctx); err != nil {
		return SumStats{}, err
	}
	s.from = newReading(p, c, size)
	defer s.from.cache.close()
	if err := walkAll(ctx, c, size, func(x Extent) error { return s.extent(ctx, x) }); err != nil {
		return SumStats{}, err
	}
	s.stats.Sum, s.stats.Bytes = s.sum.sum(), size
	return s.stats, nil
}

func (s SumSpec) checksum() checksum {
	if s.CRC32C {
		return new(crcDigest)
	}
	return newSHA()
}

type summing struct {
	SumSpec
	p     *Pacer
	c     Content
	size  int64
	sum   checksum
	from  *reading
	stats SumStats
	told  time.Time // of the last checkpoint
}

// resume puts the checksum where an earlier sum had it.
func (s *summing) resume() error {
	if s.From == 0 {
		return nil
	}
	if s.From < 0 || s.From > s.size {
		return fmt.Errorf("a sum cannot go on at byte %d of %d", s.From, s.size)
	}
	if err := s.sum.restore(s.State); err != nil {
		return fmt.Errorf("a sum cannot go on: %w", err)
	}
	return nil
}

// measure finds how much takes time, for an honest total.
func (s *summing) measure(ctx context.Context) error {
	data := s.size
	if s.sum.leaps() {
		var err error
		if data, err = measure(ctx, s.c, Extent{Len: s.size}, Zero); err != nil {
			return err
		}
	}
	s.p.Expect(s.size, s.size-data)
	return nil
}

// checkpoint tells how far the sum is, from time to time.
func (s *summing) checkpoint(done int64) {
	if s.Save == nil || time.Since(s.told) < (Checkpoints{Every: s.Every}).next(0) {
		return
	}
	s.Save(done, s.sum.state())
	s.told = time.Now()
}

// extent hashes an extent, without what was hashed before.
func (s *summing) extent(ctx context.Context, x Extent) error {
	if n := min(s.From-x.Off, x.Len); n > 0 {
		s.p.account(Moved{Done: n, Durable: n, Light: s.light(x.Kind != Data, n)})
		x.Off += n
		x.Len -= n
	}
	if x.Kind != Data {
		return s.zeros(ctx, x)
	}
	return s.from.each(ctx, x, func(buf []byte) error {
		n := int64(len(buf))
		s.sum.data(buf)
		s.p.account(Moved{Done: n, Durable: n})
		x.Off += n
		s.checkpoint(x.Off)
		return nil
	})
}

// zeros takes a hole, which spends nothing of the limit, for it is not read.
func (s *summing) zeros(ctx context.Context, x Extent) error {
	for x.Len > 0 {
		if _, err := s.p.Admit(ctx, 0); err != nil {
			return err
		}
		c := chunk{off: x.Off, len: x.Len}
		if s.sum.leaps() {
			x.Len = 0
		} else {
			c = x.cut()
		}
		s.sum.zeros(c.len)
		s.stats.Holes += c.len
		s.p.Finished(Moved{Done: c.len, Durable: c.len, Holes: c.len, Light: s.light(true, c.len)})
		s.checkpoint(c.off + c.len)
	}
	return nil
}

// light is how many of n bytes take no time.
func (s *summing) light(hole bool, n int64) int64 {
	if hole && s.sum.leaps() {
		return n
	}
	return 0
}
