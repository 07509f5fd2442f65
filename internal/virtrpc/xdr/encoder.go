package xdr

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// Encoder writes values behind each other. Its zero value has written none.
type Encoder struct {
	buf []byte
	err error
}

// Encode gives a value's bytes.
func Encode(v Value) ([]byte, error) {
	var e Encoder
	v.XDR(&e)
	return e.buf, e.err
}

// Err is the first error: something that the protocol has no room for.
func (e *Encoder) Err() error { return e.err }

// Refuse is of Stream.
func (e *Encoder) Refuse(err error) {
	if e.err == nil {
		e.err = err
	}
}

// Uint32 is of Stream.
func (e *Encoder) Uint32(v *uint32) { e.buf = binary.BigEndian.AppendUint32(e.buf, *v) }

// Int32 is of Stream.
func (e *Encoder) Int32(v *int32) { e.buf = binary.BigEndian.AppendUint32(e.buf, uint32(*v)) }

// Uint64 is of Stream.
func (e *Encoder) Uint64(v *uint64) { e.buf = binary.BigEndian.AppendUint64(e.buf, *v) }

// Int64 is of Stream.
func (e *Encoder) Int64(v *int64) { e.buf = binary.BigEndian.AppendUint64(e.buf, uint64(*v)) }

// Opaque is of Stream.
func (e *Encoder) Opaque(b []byte) {
	e.buf = append(append(e.buf, b...), make([]byte, padding(len(b)))...)
}

// String is of Stream.
func (e *Encoder) String(v *string) {
	switch {
	case len(*v) > MaxString:
		e.Refuse(fmt.Errorf("a string of %d bytes is longer than %d", len(*v), MaxString))
		return
	case strings.IndexByte(*v, 0) >= 0:
		e.Refuse(errZero)
		return
	}
	n := len(*v)
	e.Count(&n, MaxString)
	e.buf = append(append(e.buf, *v...), make([]byte, padding(n))...)
}

// Count is of Stream.
func (e *Encoder) Count(n *int, most int) {
	if *n > most {
		e.Refuse(fmt.Errorf("%d values are more than %d", *n, most))
		return
	}
	e.buf = binary.BigEndian.AppendUint32(e.buf, uint32(*n))
}
