package contenttest

import (
	"io"
	"sync"

	"storaged/internal/diskio"
)

// cluster is the unit in which a Memory has storage.
const cluster = 64 << 10

// Memory is a content that is no file: clusters in memory, of which some have no
// storage and others have some and are known to be zeros. It answers as it should,
// but for what Fault says.
type Memory struct {
	// Fault is asked before each call, by the method's name; its error is the
	// call's. nil: nothing fails.
	Fault func(call string, off, n int64) error
	// AtATime is what the content asks for as its number of requests.
	AtATime int

	size int64

	mu        sync.Mutex
	clusters  map[int64][]byte // those that have storage; empty: known to be zeros
	unflushed int              // changes since the last Flush
}

// NewMemory makes one of that size without storage.
func NewMemory(size int64) *Memory {
	return &Memory{size: size, clusters: map[int64][]byte{}}
}

// Size is what it was made with.
func (m *Memory) Size() (int64, error) { return m.size, m.fault("Size", 0, 0) }

// Requests is AtATime.
func (m *Memory) Requests() int { return m.AtATime }

// Granularity is the cluster.
func (m *Memory) Granularity() int64 { return cluster }

func (m *Memory) fault(call string, off, n int64) error {
	if m.Fault == nil {
		return nil
	}
	return m.Fault(call, off, n)
}

// ReadAt reads.
func (m *Memory) ReadAt(p []byte, off int64) (int, error) {
	if err := m.fault("ReadAt", off, int64(len(p))); err != nil {
		return 0, err
	}
	n := int(min(int64(len(p)), max(m.size-off, 0)))
	m.mu.Lock()
	defer m.mu.Unlock()
	each(off, int64(n), func(at, i, from, to int64) {
		part := p[at-off : at-off+to-from]
		clear(part)
		if c := m.clusters[i]; len(c) > 0 {
			copy(part, c[from:to])
		}
	})
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// WriteAt gives storage to what it writes.
func (m *Memory) WriteAt(p []byte, off int64) (int, error) {
	if err := m.fault("WriteAt", off, int64(len(p))); err != nil {
		return 0, err
	}
	if off+int64(len(p)) > m.size {
		return 0, io.ErrShortWrite
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.unflushed++
	each(off, int64(len(p)), func(at, i, from, to int64) {
		if len(m.clusters[i]) == 0 {
			m.clusters[i] = make([]byte, cluster)
		}
		copy(m.clusters[i][from:to], p[at-off:])
	})
	return len(p), nil
}

// Zero makes zeros known of whole clusters, and writes the others.
func (m *Memory) Zero(off, n int64, unmap bool) error {
	if err := m.fault("Zero", off, n); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.unflushed++
	each(off, n, func(at, i, from, to int64) {
		all := from == 0 && (to == cluster || at+to-from == m.size)
		switch {
		case all && unmap:
			delete(m.clusters, i)
		case all:
			m.clusters[i] = nil
		case len(m.clusters[i]) > 0:
			clear(m.clusters[i][from:to])
		}
	})
	return nil
}

// Extents gives a few at a time.
func (m *Memory) Extents(list []diskio.Extent, off, end int64) (n int, err error) {
	const most = 3
	if err := m.fault("Extents", off, end-off); err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for ; n < min(most, len(list)) && off < end; n++ {
		x := diskio.Extent{Off: off, Kind: m.kind(off / cluster)}
		for off < end && m.kind(off/cluster) == x.Kind {
			off = (off/cluster + 1) * cluster
		}
		off = min(off, end)
		x.Len = off - x.Off
		list[n] = x
	}
	return n, nil
}

// kind is that of a cluster. The caller holds mu.
func (m *Memory) kind(i int64) diskio.Kind {
	switch c, ok := m.clusters[i]; {
	case !ok:
		return diskio.Hole
	case len(c) == 0:
		return diskio.Zero
	}
	return diskio.Data
}

// Flush notes that everything is durable.
func (m *Memory) Flush() error {
	if err := m.fault("Flush", 0, 0); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.unflushed = 0
	return nil
}

// Unflushed is how many changes are not durable.
func (m *Memory) Unflushed() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.unflushed
}

// each calls do for the part of each cluster: at is where it begins, from and to
// are within the cluster i.
func each(off, n int64, do func(at, i, from, to int64)) {
	for end := off + n; off < end; {
		i := off / cluster
		to := min(end, (i+1)*cluster)
		do(off, i, off-i*cluster, to-i*cluster)
		off = to
	}
}
