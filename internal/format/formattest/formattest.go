// Package formattest makes images for tests: sound ones that need no tool, and
// hostile ones, each with what must be said of it.
package formattest

import "encoding/binary"

var big = binary.BigEndian

// Qcow2 is a sound image in format qcow2 of no bytes.
func Qcow2() []byte { return qcow2(0, 4096) }

// qcow2 is a sound image of version 3 with clusters of 512 bytes, in a file of size
// bytes: header, table of reference counts, first block of those, L1 table.
func qcow2(capacity uint64, size int) []byte {
	const cluster, bits = 512, 9
	b := make([]byte, size)
	copy(b, "QFI\xfb")
	big.PutUint32(b[4:], 3)
	big.PutUint32(b[20:], bits)
	big.PutUint64(b[24:], capacity)
	big.PutUint32(b[36:], uint32((capacity+32<<10-1)/(32<<10))) // one entry reaches 64 clusters
	big.PutUint64(b[40:], 3*cluster)
	big.PutUint64(b[48:], cluster)
	big.PutUint32(b[56:], 1)
	big.PutUint32(b[96:], 4)
	big.PutUint32(b[100:], 104)
	big.PutUint64(b[cluster:], 2*cluster)
	for i := range 4 {
		big.PutUint16(b[2*cluster+2*i:], 1)
	}
	return b
}
