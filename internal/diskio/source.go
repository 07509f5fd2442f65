package diskio

import (
	"context"

	"golang.org/x/sys/unix"
)

// scatteredBytes is how long the extents of a source are on average below which it is
// read past the page cache: the kernel reads ahead what lies in one piece, and faster,
// but of small pieces it reads what is not wanted, and page by page.
const scatteredBytes = 8 << 20

// openSource makes the source ready to be read. What is in the page cache, of which a
// look at all of it tells, is read from there.
func (c *copying) openSource() (done func()) {
	if c.src != nil && c.stats.Data < c.pieces*scatteredBytes && mostlyUncached(c) {
		if restore, err := passCache(c.src); err == nil {
			c.read = func(buf []byte, off int64) error { return readAligned(opRead, c.src, buf, off) }
			return restore
		}
	}
	c.read = func(buf []byte, off int64) error { return readFull(c.Src, buf, off) }
	c.cache = newResidency(c.Src, c.srcSize)
	return c.cache.close
}

// mostlyUncached is false, too, where the kernel does not tell (before Linux 6.5).
func mostlyUncached(c *copying) bool {
	var stat unix.Cachestat_t
	err := unix.Cachestat(uint(c.src.Fd()), &unix.CachestatRange{}, &stat, 0)
	return err == nil && int64(stat.Cache)*pageSize < c.stats.Data/2
}

// walkSource visits the source's extents. Those of data are grown to units of the
// target's storage where that is no file: an image reads what is missing of a cluster
// before it writes it, and zeroes it, and a hole reads as the zeros that belong there.
func (c *copying) walkSource(ctx context.Context, visit func(Extent) error) error {
	if FileOf(c.Dst) != nil || !c.Clean {
		return walkAll(ctx, c.Src, c.srcSize, visit)
	}
	g := growing{unit: granularity(c.Dst), visit: visit}
	if err := walkAll(ctx, c.Src, c.srcSize, g.add); err != nil {
		return err
	}
	return g.upTo(c.srcSize)
}

// growing visits data in units, and holes between.
type growing struct {
	unit  int64
	visit func(Extent) error
	data  Extent // what is to be visited next; all before it was
}

func (g *growing) add(x Extent) error {
	if x.Kind != Data {
		return nil
	}
	lo, hi := x.Off/g.unit*g.unit, (x.End()+g.unit-1)/g.unit*g.unit
	if lo <= g.data.End() {
		g.data.Len = hi - g.data.Off
		return nil
	}
	err := g.upTo(lo)
	g.data = Extent{Off: lo, Len: hi - lo}
	return err
}

// upTo visits the data, and the hole behind it, which ends there.
func (g *growing) upTo(end int64) error {
	g.data.Len = min(g.data.Len, end-g.data.Off)
	if g.data.Len > 0 {
		if err := g.visit(g.data); err != nil {
			return err
		}
	}
	if hole := (Extent{Off: g.data.End(), Len: end - g.data.End(), Kind: Zero}); hole.Len > 0 {
		return g.visit(hole)
	}
	return nil
}
