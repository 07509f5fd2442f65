package format

import (
	"encoding/binary"
	"errors"
	"io"
	"math"
	"math/bits"
	"sync"
)

const (
	// budget is how much is read of one image, bytes, whatever it says.
	budget = 1 << 20
	// headSize is read at once: it has the magic numbers of all formats.
	headSize = 36 << 10
)

// heads are buffers for beginnings: a pool may have ten thousand images.
var heads = sync.Pool{New: func() any { return new([headSize]byte) }}

// source is what an image is read from, within bounds.
type source struct {
	from io.ReaderAt
	size int64 // bytes, -1 where not known
	head *[headSize]byte
	read int64 // bytes

	spent bool  // more was asked for than the budget allows
	short bool  // something was asked for that is not there
	err   error // of from
}

func newSource(from io.ReaderAt, size int64) (*source, error) {
	s := &source{from: from, size: size, head: heads.Get().(*[headSize]byte)}
	s.fill(s.head[:], 0)
	if s.err != nil {
		s.done()
		return nil, s.err
	}
	s.short = false // the head is read whether somebody needs it or not
	return s, nil
}

// done gives up the buffer. What at gave is gone then.
func (s *source) done() { heads.Put(s.head) }

// at gives n bytes at an offset. What is not there reads as zeros. It is valid
// until done.
func (s *source) at(off int64, n int) []byte {
	if off >= 0 && off <= headSize-int64(n) {
		if s.size < 0 && off+int64(n) > s.read {
			s.short = true
		}
		return s.head[off : off+int64(n)]
	}
	b := make([]byte, n)
	s.fill(b, off)
	return b
}

// fill reads b, with zeros for what is not there.
func (s *source) fill(b []byte, off int64) {
	clear(b)
	switch {
	case s.err != nil:
		return
	case off < 0 || off > math.MaxInt64-int64(len(b)) || s.size >= 0 && off >= s.size:
		s.short = true
		return
	case s.read+int64(len(b)) > budget:
		s.spent = true
		return
	}
	want := b
	if s.size >= 0 {
		want = b[:min(int64(len(b)), s.size-off)]
	}
	n, err := s.from.ReadAt(want, off)
	s.read += int64(n)
	clear(b[n:])
	s.short = s.short || n < len(b)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
}

// within reports whether n bytes at off lie within the file, or may do so.
func (s *source) within(off, n uint64) bool {
	end := uint64(math.MaxInt64)
	if s.size >= 0 {
		end = uint64(s.size)
	}
	return off <= end && n <= end-off
}

func (s *source) u8(at int64) uint8 { return s.at(at, 1)[0] }

func (s *source) big16(at int64) uint16 { return binary.BigEndian.Uint16(s.at(at, 2)) }
func (s *source) big32(at int64) uint32 { return binary.BigEndian.Uint32(s.at(at, 4)) }
func (s *source) big64(at int64) uint64 { return binary.BigEndian.Uint64(s.at(at, 8)) }

func (s *source) little16(at int64) uint16 { return binary.LittleEndian.Uint16(s.at(at, 2)) }
func (s *source) little32(at int64) uint32 { return binary.LittleEndian.Uint32(s.at(at, 4)) }
func (s *source) little64(at int64) uint64 { return binary.LittleEndian.Uint64(s.at(at, 8)) }

// power reports whether n is a power of two between two others.
func power(n, least, most uint64) bool { return n >= least && n <= most && n&(n-1) == 0 }

// blocks is how many units of that size n bytes take.
func blocks(n, unit uint64) uint64 {
	if n == 0 {
		return 0
	}
	return (n-1)/unit + 1
}

// exponent is that of a power of two.
func exponent(n uint64) uint { return uint(bits.TrailingZeros64(n)) }
