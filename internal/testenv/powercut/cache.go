package powercut

import (
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
)

// sectorBytes is what a disk writes whole or not at all.
const sectorBytes = 512

// medium is what keeps its content without power.
type medium interface {
	io.ReaderAt
	io.WriterAt
}

// cache is a disk with a volatile write cache: what was written is read back
// at once and is on the medium only after a flush. Its methods may be called
// concurrently.
type cache struct {
	mu      sync.Mutex // held for ever once the power is cut
	medium  medium
	pending map[int64][][]byte // by sector: what was written since the last flush, oldest first
}

func newCache(m medium) *cache { return &cache{medium: m, pending: map[int64][][]byte{}} }

// ReadAt reads what was written last. Offset and length are whole sectors.
func (c *cache) ReadAt(p []byte, off int64) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := aligned(p, off); err != nil {
		return 0, err
	}
	if n, err := c.medium.ReadAt(p, off); err != nil {
		return n, err
	}
	for at := 0; at < len(p); at += sectorBytes {
		if versions := c.pending[sector(off, at)]; len(versions) > 0 {
			copy(p[at:], versions[len(versions)-1])
		}
	}
	return len(p), nil
}

// WriteAt takes whole sectors into the cache.
func (c *cache) WriteAt(p []byte, off int64) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := aligned(p, off); err != nil {
		return 0, err
	}
	p = slices.Clone(p) // the caller's
	for at := 0; at < len(p); at += sectorBytes {
		s := sector(off, at)
		c.pending[s] = append(c.pending[s], p[at:at+sectorBytes])
	}
	return len(p), nil
}

// Flush brings to the medium what was written before it began.
func (c *cache) Flush() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for s, versions := range c.pending {
		if _, err := c.medium.WriteAt(versions[len(versions)-1], s*sectorBytes); err != nil {
			return err
		}
	}
	clear(c.pending)
	return nil
}

// Loss says what a cut did.
type Loss struct {
	Pending int // sectors that had been written and not flushed
	Kept    int // of these, what reached the medium nevertheless
}

// Cut is the end: of the sectors pending it brings about the part keep to the
// medium, each in any state it had since the last flush. From then on nobody
// gets an answer, so that nobody can tell others what is not so.
func (c *cache) Cut(rng *rand.Rand, keep float64) (Loss, error) {
	c.mu.Lock() // and never unlocks
	loss := Loss{Pending: len(c.pending)}
	for _, s := range slices.Sorted(maps.Keys(c.pending)) {
		if rng.Float64() >= keep {
			continue
		}
		versions := c.pending[s]
		if _, err := c.medium.WriteAt(versions[rng.IntN(len(versions))], s*sectorBytes); err != nil {
			return loss, err
		}
		loss.Kept++
	}
	return loss, nil
}

func sector(off int64, at int) int64 { return (off + int64(at)) / sectorBytes }

func aligned(p []byte, off int64) error {
	if off%sectorBytes != 0 || len(p)%sectorBytes != 0 {
		return fmt.Errorf("%d bytes at %d are no whole sectors", len(p), off)
	}
	return nil
}
