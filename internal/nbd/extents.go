package nbd

import (
	"math"
	"slices"
	"sync"
	"syscall"

	"storaged/internal/diskio"
)

const (
	// contexts are those that a client knows: allocation, and depth.
	contexts   = 2
	allocation = 0
	depth      = 1

	// mostDescriptors is how many a map may have by the protocol.
	mostDescriptors = 1 << 20
	// mostSpans is how many are remembered: as many as QEMU sends at a time.
	mostSpans = 1 << 17
	// mapBytes is what one map is asked for: nearly all that a request can say, and
	// a multiple of every cluster.
	mapBytes = math.MaxUint32 &^ (2<<20 - 1)
)

// span is a part of the content and what a context says of it.
type span struct {
	off, n int64
	status uint32
}

func (s span) end() int64 { return s.off + s.n }

// mapping is a map that is being received.
type mapping struct {
	at, end int64
	list    []span
}

// add takes a descriptor. The last one may say more than was asked for. What is
// more than can be remembered is looked at, and asked for again.
func (m *mapping) add(n, status uint32) error {
	if n == 0 || m.at >= m.end {
		return broken("an extent of %d bytes at %d in a map that ends at %d", n, m.at, m.end)
	}
	x := span{m.at, min(int64(n), m.end-m.at), status}
	m.at = x.end()
	if last := len(m.list) - 1; last >= 0 && m.list[last].end() == x.off && m.list[last].status == status {
		m.list[last].n += x.n
	} else if len(m.list) < mostSpans {
		m.list = append(m.list, x)
	}
	return nil
}

// memory is what is known of the maps: of each, what lies in one piece. Writes make
// the server's answers old, also one that is under way.
type memory struct {
	asking sync.Mutex // held while the server is asked; before mu

	mu      sync.Mutex
	known   [contexts][]span
	changed *part64 // since the question that is under way; nil if there is none
}

type part64 struct{ lo, hi int64 }

// changes notes that a part was written: after the server's answer, for a map from
// before that was true until then.
func (m *memory) changes(off, n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c := m.changed; c != nil {
		c.lo, c.hi = min(c.lo, off), max(c.hi, off+n)
	}
	for i := range m.known {
		m.known[i] = without(m.known[i], off, off+n)
	}
}

// without is what of a map lies behind a part of it, or else before it.
func without(list []span, lo, hi int64) []span {
	if len(list) == 0 || hi <= list[0].off || lo >= list[len(list)-1].end() {
		return list
	}
	if behind := clip(list, hi, math.MaxInt64); len(behind) > 0 {
		return behind
	}
	return clip(list, 0, lo)
}

// clip is the part of a map from lo to hi. It changes the list.
func clip(list []span, lo, hi int64) []span {
	i, _ := slices.BinarySearchFunc(list, lo, func(s span, lo int64) int {
		if s.end() <= lo {
			return -1
		}
		return 1
	})
	list = list[i:]
	if len(list) > 0 && list[0].off < lo {
		list[0].n, list[0].off = list[0].end()-lo, lo
	}
	for last := len(list) - 1; last >= 0 && list[last].end() > hi; last-- {
		if list[last].off < hi {
			list[last].n = hi - list[last].off
			break
		}
		list = list[:last]
	}
	return list
}

// find calls use with what is known from off on, first of what goes on there, until
// that says that it is enough. It is false if nothing is known there.
func (m *memory) find(which int, off int64, use func(span) (more bool)) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := m.known[which]
	if len(list) == 0 || off < list[0].off || off >= list[len(list)-1].end() {
		return false
	}
	i, _ := slices.BinarySearchFunc(list, off, func(s span, off int64) int {
		if s.end() <= off {
			return -1
		}
		return 1
	})
	for _, s := range list[i:] {
		if !use(s) {
			break
		}
	}
	return true
}

func (m *memory) begin() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.changed = &part64{math.MaxInt64, 0}
}

// learn takes an answer, without what was written meanwhile. It goes on with what is
// known if it can.
func (m *memory) learn(maps *[contexts][]span) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.changed
	m.changed = nil
	for which, list := range maps {
		if list == nil {
			continue
		}
		if c.lo < c.hi {
			list = without(list, c.lo, c.hi)
		}
		old := m.known[which]
		if len(list) > 0 && len(old) > 0 && old[len(old)-1].end() == list[0].off && len(old)+len(list) <= mostSpans {
			list = append(old, list...)
		}
		m.known[which] = list
	}
}

// look calls use as find does, after asking the server if need be.
func (c *Client) look(which int, off, end int64, use func(span) (more bool)) error {
	if off < 0 || off >= end || end > c.terms.size {
		return syscall.EINVAL
	}
	if c.memory.find(which, off, use) {
		return nil
	}
	c.memory.asking.Lock()
	defer c.memory.asking.Unlock()
	if c.memory.find(which, off, use) { // somebody else asked
		return nil
	}
	return c.ask(which, off, use)
}

// ask asks the server. Its answer is good for who asked, even if parts of it are
// written meanwhile.
func (c *Client) ask(which int, off int64, use func(span) (more bool)) error {
	r := &request{command: cmdBlockStatus, off: off, n: uint32(min(c.terms.size-off, mapBytes))}
	c.memory.begin()
	err := c.run(r)
	answer := slices.Clone(r.spans[which][:min(len(r.spans[which]), mostAnswer)])
	if err != nil {
		r.spans = [contexts][]span{}
	}
	c.memory.learn(&r.spans)
	if err != nil {
		return err
	}
	for _, s := range answer {
		if !use(s) {
			break
		}
	}
	return nil
}

// mostAnswer is how much of a map one caller gets straight from an answer.
const mostAnswer = 64

// Extents asks the server, in large pieces ahead, and remembers what it says. A
// server that says nothing of extents has data only.
func (c *Client) Extents(list []diskio.Extent, off, end int64) (n int, err error) {
	if len(list) == 0 {
		return 0, syscall.EINVAL
	}
	if !c.maps(allocation) {
		list[0] = diskio.Extent{Off: off, Len: end - off}
		return 1, nil
	}
	err = c.look(allocation, off, end, func(s span) bool {
		lo, hi := max(s.off, off), min(s.end(), end)
		if lo >= hi {
			return false
		}
		list[n] = diskio.Extent{Off: lo, Len: hi - lo, Kind: kindOf(s.status)}
		n++
		return n < len(list)
	})
	return n, err
}

func kindOf(status uint32) diskio.Kind {
	switch status & (stateHole | stateZero) {
	case stateZero:
		return diskio.Zero
	case stateHole | stateZero:
		return diskio.Hole
	}
	return diskio.Data // a hole that may read as anything is to be read, too
}

// Depth is a part of a content that one layer of a chain has: 1 is the top, 2 what
// lies below it, and so on. 0 is what no layer has.
type Depth struct {
	Off, Len int64 // bytes
	Layer    uint32
}

// Depths is Extents by layers. It is ErrUnsupported unless the connection was made
// with Depths and the server knows them.
func (c *Client) Depths(list []Depth, off, end int64) (n int, err error) {
	if !c.maps(depth) {
		return 0, diskio.ErrUnsupported
	}
	if len(list) == 0 {
		return 0, syscall.EINVAL
	}
	err = c.look(depth, off, end, func(s span) bool {
		lo, hi := max(s.off, off), min(s.end(), end)
		if lo >= hi {
			return false
		}
		list[n] = Depth{lo, hi - lo, s.status}
		n++
		return n < len(list)
	})
	return n, err
}

// maps says whether the server gives a map.
func (c *Client) maps(which int) bool {
	for _, w := range c.terms.contexts {
		if w == which {
			return true
		}
	}
	return false
}
