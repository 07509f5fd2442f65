package xdr_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"

	"storaged/internal/virtrpc/xdr"
)

// all has a field of every type.
type all struct {
	U32    uint32
	I32    int32
	U64    uint64
	I64    int64
	Text   string
	Fixed  [5]byte
	List   []string
	Maybe  *string
	Nested *inner
}

type inner struct{ N uint32 }

func (i *inner) XDR(s xdr.Stream) { s.Uint32(&i.N) }

func (a *all) XDR(s xdr.Stream) {
	s.Uint32(&a.U32)
	s.Int32(&a.I32)
	s.Uint64(&a.U64)
	s.Int64(&a.I64)
	s.String(&a.Text)
	s.Opaque(a.Fixed[:])
	xdr.List(s, &a.List, 3, xdr.Stream.String)
	xdr.OptionalString(s, &a.Maybe)
	xdr.Optional(s, &a.Nested, func(s xdr.Stream, i *inner) { i.XDR(s) })
}

var full = all{
	U32: 1, I32: -1, U64: 1 << 40, I64: -2, Text: "trc", Fixed: [5]byte{1, 2, 3, 4, 5},
	List: []string{"", "abcd"}, Maybe: new("m"), Nested: &inner{7},
}

// The example of RFC 4506 in bytes: each value takes a multiple of four.
const fullBytes = "00000001" + "ffffffff" + "0000010000000000" + "fffffffffffffffe" + "0000000374726300" +
	"0102030405000000" + "00000002" + "00000000" + "0000000461626364" + "00000001" + "000000016d000000" + "00000001" + "00000007"

func TestValuesAreEncoded(t *testing.T) {
	b, err := xdr.Encode(&full)
	if got := hex.EncodeToString(b); err != nil || got != fullBytes {
		t.Errorf("got %s, %v\nnot %s", got, err, fullBytes)
	}
}

func TestValuesComeBack(t *testing.T) {
	for _, in := range []all{full, {}, {Text: strings.Repeat("x", xdr.MaxString)}} {
		b, err := xdr.Encode(&in)
		if err != nil {
			t.Fatal(err)
		}
		var out all
		if err := xdr.Decode(append(b, "what follows"...), &out); err != nil || !reflect.DeepEqual(in, out) {
			t.Errorf("%.80v became %.80v, %v", in, out, err)
		}
	}
}

// The first byte of go-libvirt's word for a value that is there is the last of others'.
func TestEveryNumberButZeroIsAValue(t *testing.T) {
	for in, there := range map[string]bool{"00000000": false, "0100000000000000": true, "ffffffff00000000": true} {
		b, err := hex.DecodeString(in)
		if err != nil {
			t.Fatal(err)
		}
		var text *string
		d := xdr.NewDecoder(b)
		if xdr.OptionalString(d, &text); d.Err() != nil || (text != nil) != there || len(d.Rest()) > 0 {
			t.Errorf("%s: %v, %v", in, text, d.Err())
		}
	}
}

func TestEveryCutIsShort(t *testing.T) {
	b, err := xdr.Encode(&full)
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(b) {
		if err := xdr.Decode(b[:n], &all{}); !errors.Is(err, xdr.ErrShort) {
			t.Errorf("%d of %d bytes: %v", n, len(b), err)
		}
	}
}

func TestWhatThereIsNoRoomForIsRefused(t *testing.T) {
	for _, v := range []all{{List: make([]string, 4)}, {Text: strings.Repeat("x", xdr.MaxString+1)}, {Text: "a\x00b"}, {Maybe: new("\x00")}} {
		if b, err := xdr.Encode(&v); err == nil {
			t.Errorf("%.80v was encoded as %x", v, b)
		}
	}
	for _, in := range []string{"00000004", "ffffffff", "7fffffff"} {
		b, err := hex.DecodeString(in)
		if err != nil {
			t.Fatal(err)
		}
		var list []string
		d := xdr.NewDecoder(b)
		if xdr.List(d, &list, 3, xdr.Stream.String); d.Err() == nil || errors.Is(d.Err(), xdr.ErrShort) {
			t.Errorf("a list of %s: %v", in, d.Err())
		}
	}
}

// After an error nothing is taken any more, and the first error stays.
func TestFirstErrorStays(t *testing.T) {
	d := xdr.NewDecoder(make([]byte, 8))
	first := errors.New("first")
	d.Refuse(first)
	d.Refuse(errors.New("second"))
	var s string
	d.String(&s)
	if d.Err() != first || len(d.Rest()) != 8 {
		t.Errorf("%v, %d bytes left", d.Err(), len(d.Rest()))
	}
}

// A count that promises what does not come costs no memory.
func TestPromisesCostNothing(t *testing.T) {
	b := []byte{0, 0x40, 0, 0}
	used := testing.AllocsPerRun(10, func() {
		var list []string
		d := xdr.NewDecoder(b)
		xdr.List(d, &list, 1<<22, xdr.Stream.String)
		if !errors.Is(d.Err(), xdr.ErrShort) || len(list) > 1 {
			t.Errorf("%v, %d values", d.Err(), len(list))
		}
	})
	if used > 5 {
		t.Errorf("%v allocations", used)
	}
}

// What can be read at all is written as it was, but for bytes of padding and for what
// numbers say that there is a value.
func FuzzDecode(f *testing.F) {
	b, err := xdr.Encode(&full)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		var v all
		if xdr.Decode(b, &v) != nil {
			return
		}
		again, err := xdr.Encode(&v)
		if err != nil {
			t.Fatal(err)
		}
		var w all
		if err := xdr.Decode(again, &w); err != nil || !reflect.DeepEqual(v, w) || len(again) > len(b) {
			t.Errorf("%x\nbecame %x, %v", b, again, err)
		}
		if third, err := xdr.Encode(&w); err != nil || !bytes.Equal(again, third) {
			t.Errorf("%x\nbecame %x, %v", again, third, err)
		}
	})
}
