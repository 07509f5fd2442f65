package xdr

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

var (
	// ErrShort says that the bytes end before the values do.
	ErrShort = errors.New("the bytes end before the values do")

	errZero = errors.New("a string has a zero byte")
)

// Decoder reads values that a stranger may have sent. It takes no more memory than
// the values have that came.
type Decoder struct {
	buf []byte
	err error
}

// NewDecoder reads from b.
func NewDecoder(b []byte) *Decoder { return &Decoder{buf: b} }

// Decode reads one value. What follows it is left aside, as libvirt does.
func Decode(b []byte, v Value) error {
	d := NewDecoder(b)
	v.XDR(d)
	return d.err
}

// Err is the first error.
func (d *Decoder) Err() error { return d.err }

// Rest is what was not read.
func (d *Decoder) Rest() []byte { return d.buf }

// Refuse is of Stream.
func (d *Decoder) Refuse(err error) {
	if d.err == nil {
		d.err = err
	}
}

// take gives the next n bytes, nil after an error.
func (d *Decoder) take(n int) []byte {
	switch {
	case d.err != nil:
		return nil
	case n > len(d.buf):
		d.err = ErrShort
		return nil
	}
	b := d.buf[:n]
	d.buf = d.buf[n:]
	return b
}

// word is the next four bytes, 0 after an error.
func (d *Decoder) word() uint32 {
	if b := d.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// double is the next eight.
func (d *Decoder) double() uint64 {
	if b := d.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// Uint32 is of Stream.
func (d *Decoder) Uint32(v *uint32) { *v = d.word() }

// Int32 is of Stream.
func (d *Decoder) Int32(v *int32) { *v = int32(d.word()) }

// Uint64 is of Stream.
func (d *Decoder) Uint64(v *uint64) { *v = d.double() }

// Int64 is of Stream.
func (d *Decoder) Int64(v *int64) { *v = int64(d.double()) }

// Opaque is of Stream.
func (d *Decoder) Opaque(b []byte) {
	copy(b, d.take(len(b)))
	d.take(padding(len(b)))
}

// String is of Stream.
func (d *Decoder) String(v *string) {
	var n int
	d.Count(&n, MaxString)
	*v = string(d.take(n))
	d.take(padding(n))
	if strings.IndexByte(*v, 0) >= 0 {
		d.Refuse(errZero)
	}
}

// Count is of Stream.
func (d *Decoder) Count(n *int, most int) {
	w := d.word()
	*n = 0
	if d.err == nil && uint64(w) > uint64(most) {
		d.err = fmt.Errorf("%d values are more than %d", w, most)
		return
	}
	if d.err == nil {
		*n = int(w)
	}
}
