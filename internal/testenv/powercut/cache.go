package powercut

import (
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
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
	mu      sync.Mutex
	medium  medium
	pending map[int64][][]byte // by sector: what was written since the last flush, oldest first
	armed   *Cut               // to be made by the next flush
	dead    bool               // the power is off
	cut     chan outcome       // gets what the cut did
}

// outcome is the end of a disk.
type outcome struct {
	loss Loss
	err  error
}

func newCache(m medium) *cache {
	return &cache{medium: m, pending: map[int64][][]byte{}, cut: make(chan outcome, 1)}
}

// lock is for those who work while there is power. Without it nobody gets an
// answer, so that nobody can tell others what is not so.
func (c *cache) lock() {
	c.mu.Lock()
	if c.dead {
		c.mu.Unlock()
		select {}
	}
}

// ReadAt reads what was written last. Offset and length are whole sectors.
func (c *cache) ReadAt(p []byte, off int64) (int, error) {
	c.lock()
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
	c.lock()
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
	c.lock()
	if c.armed != nil && len(c.pending) > 0 {
		c.end(*c.armed)
		c.mu.Unlock()
		select {}
	}
	defer c.mu.Unlock()
	for s, versions := range c.pending {
		if _, err := c.medium.WriteAt(versions[len(versions)-1], s*sectorBytes); err != nil {
			return err
		}
	}
	clear(c.pending)
	return nil
}

// Cut says how the power goes.
type Cut struct {
	Seed uint64
	// Keep is about the part of what was not flushed that reaches the medium
	// nevertheless, from 0 to 1.
	Keep float64
	// Flush is to wait for a flush that has something to do, and not to let it
	// begin: most is lost then. If none comes soon, the power goes all the same.
	Flush bool
}

// Loss says what a cut did.
type Loss struct {
	Pending int // sectors that had been written and not flushed
	Kept    int // of these, what reached the medium nevertheless
}

// flushPatience bounds the wait for a flush: a host at work flushes many times
// in it.
const flushPatience = time.Second

// Cut cuts the power. It must be called once.
func (c *cache) Cut(how Cut) (Loss, error) {
	if how.Flush {
		c.arm(how)
	} else {
		c.cutNow(how)
	}
	o := <-c.cut
	return o.loss, o.err
}

func (c *cache) arm(how Cut) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.armed = &how
	time.AfterFunc(flushPatience, func() { c.cutNow(how) })
}

func (c *cache) cutNow(how Cut) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.dead {
		c.end(how)
	}
}

// end brings to the medium what survives, each sector in any state that it had
// since the last flush. It is called with the mutex.
func (c *cache) end(how Cut) {
	c.dead = true
	var o outcome
	o.loss.Pending = len(c.pending)
	rng := rand.New(rand.NewPCG(how.Seed, 0))
	for _, s := range slices.Sorted(maps.Keys(c.pending)) {
		if rng.Float64() >= how.Keep {
			continue
		}
		versions := c.pending[s]
		if _, o.err = c.medium.WriteAt(versions[rng.IntN(len(versions))], s*sectorBytes); o.err != nil {
			break
		}
		o.loss.Kept++
	}
	c.cut <- o
}

func sector(off int64, at int) int64 { return (off + int64(at)) / sectorBytes }

func aligned(p []byte, off int64) error {
	if off%sectorBytes != 0 || len(p)%sectorBytes != 0 {
		return fmt.Errorf("%d bytes at %d are no whole sectors", len(p), off)
	}
	return nil
}
