package diskio

import "sync"

// ledger puts what was moved out of order in order again: how far the content
// is there without a gap, and the check of that. It is safe for concurrent use.
type ledger struct {
	mu      sync.Mutex
	whole   int64 // bytes from the start, without a gap
	crc     uint32
	waiting map[int64]part // behind a gap, by offset; a few, as workers begin in order
}

type part struct {
	len int64
	crc uint32
}

// add notes that the n bytes at off, which begins at 0, are moved.
func (l *ledger) add(off, n int64, crc uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiting == nil {
		l.waiting = map[int64]part{}
	}
	l.waiting[off] = part{n, crc}
	for {
		next, ok := l.waiting[l.whole]
		if !ok {
			return
		}
		delete(l.waiting, l.whole)
		l.crc = crcJoin(l.crc, next.crc, next.len)
		l.whole += next.len
	}
}
