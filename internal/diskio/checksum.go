package diskio

import (
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"errors"
	"hash"
	"hash/crc32"
)

// checksum is taken of a content that comes in order.
type checksum interface {
	data(b []byte)
	// zeros takes n bytes that are zeros and were not read.
	zeros(n int64)
	// leaps reports whether zeros takes no time, however many they are.
	leaps() bool
	sum() []byte
	// state is what restore needs to go on from here.
	state() []byte
	restore(state []byte) error
}

// shaDigest is SHA-256, which knows no way around hashing every zero.
type shaDigest struct{ hash.Hash }

func newSHA() shaDigest { return shaDigest{sha256.New()} }

func (d shaDigest) data(b []byte) { d.Write(b) } // never fails, says package hash
func (d shaDigest) leaps() bool   { return false }
func (d shaDigest) sum() []byte   { return d.Sum(nil) }

func (d shaDigest) zeros(n int64) {
	for n > 0 {
		part := min(n, int64(len(zeros)))
		d.Write(zeros[:part])
		n -= part
	}
}

func (d shaDigest) state() []byte {
	state, err := d.Hash.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil {
		panic("internal error: SHA-256 does not give its state: " + err.Error())
	}
	return state
}

func (d shaDigest) restore(state []byte) error {
	return d.Hash.(encoding.BinaryUnmarshaler).UnmarshalBinary(state)
}

// crcDigest is CRC-32C, the most significant byte first.
type crcDigest struct{ crc uint32 }

func (d *crcDigest) data(b []byte) { d.crc = crc32.Update(d.crc, castagnoli, b) }
func (d *crcDigest) zeros(n int64) { d.crc = crcJoin(d.crc, crcOfZeros(n), n) }
func (d *crcDigest) leaps() bool   { return true }
func (d *crcDigest) sum() []byte   { return binary.BigEndian.AppendUint32(nil, d.crc) }
func (d *crcDigest) state() []byte { return d.sum() }

func (d *crcDigest) restore(state []byte) error {
	if len(state) != crc32.Size {
		return errors.New("it is no state of a CRC-32C")
	}
	d.crc = binary.BigEndian.Uint32(state)
	return nil
}
