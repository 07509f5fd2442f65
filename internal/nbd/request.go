package nbd

import (
	"encoding/binary"
	"slices"
)

const (
	// mostParts is in how many parts with gaps between them a reply may lie at any
	// time. Servers send chunks in their order, or nearly so.
	mostParts = 64
	// mostErrors is how many errors one reply may name.
	mostErrors = 16
)

// request is a command that was sent, or is about to be. From its registration to
// its end it belongs to the reader of its connection.
type request struct {
	command uint16
	flags   uint16
	off     int64
	n       uint32
	buf     []byte // n bytes: to be read into, or to be sent

	parts  []part // of buf: read, in order, with gaps between
	errors int
	spans  [contexts][]span // the map, by context
	err    error
	done   chan struct{} // closed at the end
}

// part is of a request, from lo to hi.
type part struct{ lo, hi uint32 }

// finish ends a request that nobody will answer any more.
func (r *request) finish(err error) {
	r.err = err
	close(r.done)
}

// appendTo appends the request's head.
func (r *request) appendTo(b []byte, cookie uint64) []byte {
	b = binary.BigEndian.AppendUint32(b, magicRequest)
	b = binary.BigEndian.AppendUint16(b, r.flags)
	b = binary.BigEndian.AppendUint16(b, r.command)
	b = binary.BigEndian.AppendUint64(b, cookie)
	b = binary.BigEndian.AppendUint64(b, uint64(r.off))
	return binary.BigEndian.AppendUint32(b, r.n)
}

// cover gives the place of what a chunk says about n bytes at off: within the
// request, and nothing that another chunk spoke of before.
func (r *request) cover(off uint64, n uint32) ([]byte, error) {
	at := off - uint64(r.off) // wraps around if it lies before
	if n == 0 || off < uint64(r.off) || at > uint64(r.n) || uint64(n) > uint64(r.n)-at {
		return nil, broken("a chunk of %d bytes at %d in a reply of %d bytes at %d", n, off, r.n, r.off)
	}
	if !r.add(part{uint32(at), uint32(at) + n}) {
		return nil, broken("chunks of a reply overlap, or are more than %d pieces", mostParts)
	}
	return r.buf[at : at+uint64(n)], nil
}

// add notes a part. It is false if it overlaps another or is one too many.
func (r *request) add(p part) bool {
	i, _ := slices.BinarySearchFunc(r.parts, p.lo, func(q part, lo uint32) int {
		if q.lo < lo {
			return -1
		}
		return 1
	}) // the first that does not begin before p
	if i > 0 && r.parts[i-1].hi > p.lo || i < len(r.parts) && r.parts[i].lo < p.hi {
		return false
	}
	before := i > 0 && r.parts[i-1].hi == p.lo
	behind := i < len(r.parts) && r.parts[i].lo == p.hi
	switch {
	case before && behind:
		r.parts[i-1].hi = r.parts[i].hi
		r.parts = slices.Delete(r.parts, i, i+1)
	case before:
		r.parts[i-1].hi = p.hi
	case behind:
		r.parts[i].lo = p.lo
	default:
		r.parts = slices.Insert(r.parts, i, p)
	}
	return len(r.parts) <= mostParts
}

// complete says whether a reply without an error has all that was asked for.
func (r *request) complete(maps int) error {
	switch {
	case r.err != nil:
	case r.command == cmdRead && !slices.Equal(r.parts, []part{{0, r.n}}):
		return broken("a reply without a part of the %d bytes at %d", r.n, r.off)
	case r.command == cmdBlockStatus && r.maps() != maps:
		return broken("a reply without the map of the %d bytes at %d", r.n, r.off)
	}
	return nil
}

// maps is how many contexts the reply had.
func (r *request) maps() (n int) {
	for _, m := range r.spans {
		if len(m) > 0 {
			n++
		}
	}
	return n
}
