package ipc

import "encoding/binary"

const (
	maxDepth    = 16
	maxElements = 4096
)

// checkBounds walks the msgpack value without allocating and refuses whatever
// declares more than there is: lengths beyond the input, more than maxElements
// elements, nesting deeper than maxDepth, the reserved byte, trailing bytes.
func checkBounds(b []byte) error {
	w := walker{in: b}
	if err := w.value(0); err != nil {
		return err
	}
	if len(w.in) != 0 {
		return protocolErrorf("%d bytes behind the value", len(w.in))
	}
	return nil
}

type walker struct {
	in       []byte
	elements int
}

func (w *walker) value(depth int) error {
	if depth > maxDepth {
		return protocolErrorf("nested deeper than %d", maxDepth)
	}
	if w.elements++; w.elements > maxElements {
		return protocolErrorf("more than %d elements", maxElements)
	}
	head, err := w.take(1)
	if err != nil {
		return err
	}
	c := head[0]
	switch {
	case c <= 0x7f, c >= 0xe0, c == 0xc0, c == 0xc2, c == 0xc3:
		return nil
	case c <= 0x8f:
		return w.children(2*int64(c&0x0f), depth)
	case c <= 0x9f:
		return w.children(int64(c&0x0f), depth)
	case c <= 0xbf:
		return w.skip(int64(c & 0x1f))
	case c >= 0xca && c <= 0xd3:
		return w.skip(scalarLen[c-0xca])
	case c >= 0xd4 && c <= 0xd8:
		return w.skip(1 + 1<<(c-0xd4))
	}
	return w.counted(c, depth)
}

// scalarLen is the length of 0xca … 0xd3: float 32 and 64, uint and int 8 to 64.
var scalarLen = [...]int64{4, 8, 1, 2, 4, 8, 1, 2, 4, 8}

// lengthWidth is how many bytes of length follow a code that has an explicit
// one: bin, ext, str, array, map. 0 is no such code.
var lengthWidth = [256]uint8{
	0xc4: 1, 0xc5: 2, 0xc6: 4, 0xc7: 1, 0xc8: 2, 0xc9: 4,
	0xd9: 1, 0xda: 2, 0xdb: 4, 0xdc: 2, 0xdd: 4, 0xde: 2, 0xdf: 4,
}

// counted handles the codes with an explicit length.
func (w *walker) counted(c byte, depth int) error {
	if lengthWidth[c] == 0 {
		return protocolErrorf("reserved byte %#x", c)
	}
	n, err := w.length(int(lengthWidth[c]))
	switch {
	case err != nil:
		return err
	case c >= 0xde:
		return w.children(2*n, depth)
	case c >= 0xdc:
		return w.children(n, depth)
	case c >= 0xc7 && c <= 0xc9:
		return w.skip(n + 1)
	}
	return w.skip(n)
}

func (w *walker) length(width int) (int64, error) {
	b, err := w.take(width)
	if err != nil {
		return 0, err
	}
	var full [4]byte
	copy(full[4-width:], b)
	return int64(binary.BigEndian.Uint32(full[:])), nil
}

func (w *walker) children(n int64, depth int) error {
	if n > int64(len(w.in)) {
		return protocolErrorf("%d elements declared, %d bytes there", n, len(w.in))
	}
	for range n {
		if err := w.value(depth + 1); err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) skip(n int64) error {
	if n > int64(len(w.in)) {
		return protocolErrorf("%d bytes declared, %d there", n, len(w.in))
	}
	w.in = w.in[n:]
	return nil
}

func (w *walker) take(n int) ([]byte, error) {
	if n > len(w.in) {
		return nil, protocolErrorf("value ends early")
	}
	b := w.in[:n]
	w.in = w.in[n:]
	return b, nil
}
