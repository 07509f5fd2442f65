package diskio

import (
	"hash/crc32"
	"math/bits"
	"sync"
)

// CRC-32C of contents that are not read in order, or not read at all where they
// are holes: the checks of parts can be combined (M. Adler, zlib, crc32.c).

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// crcOf is the check of b.
func crcOf(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// crcOfZeros is the check of n zeros.
func crcOfZeros(n int64) uint32 { return ^crcShift(^uint32(0), n) }

// crcJoin is the check of two contents, the second of which is n bytes long.
func crcJoin(first, second uint32, n int64) uint32 { return crcShift(first, n) ^ second }

// crcMatrix is a linear map of 32 bits, by columns.
type crcMatrix [32]uint32

func (m *crcMatrix) apply(v uint32) (out uint32) {
	for ; v != 0; v &= v - 1 {
		out ^= m[bits.TrailingZeros32(v)]
	}
	return out
}

// crcShift is what n zero bytes make of the register v.
func crcShift(v uint32, n int64) uint32 {
	for _, m := range crcPowers() {
		if n&1 != 0 {
			v = m.apply(v)
		}
		if n >>= 1; n == 0 {
			break
		}
	}
	return v
}

// crcPowers are the maps of 1, 2, 4, … zero bytes.
var crcPowers = sync.OnceValue(func() *[63]crcMatrix {
	var m crcMatrix // one bit
	m[0] = crc32.Castagnoli
	for i := 1; i < 32; i++ {
		m[i] = 1 << (i - 1)
	}
	var out [63]crcMatrix
	out[0] = m.squared(3) // 8 bits
	for i := 1; i < len(out); i++ {
		out[i] = out[i-1].squared(1)
	}
	return &out
})

// squared squares the map so many times.
func (m crcMatrix) squared(times int) crcMatrix {
	for range times {
		var out crcMatrix
		for i := range out {
			out[i] = m.apply(m[i])
		}
		m = out
	}
	return m
}
