package formattest

import (
	"bytes"
	"compress/flate"
	"compress/zlib"
	"io"
	"testing"
)

// A bomb that does not go off is none.
func TestDeflated(t *testing.T) {
	for _, n := range []int{1, 258, 259, 260, 2 << 20} {
		b, err := io.ReadAll(flate.NewReader(bytes.NewReader(deflated(n))))
		if err != nil || !bytes.Equal(b, make([]byte, n)) {
			t.Errorf("%d bytes: %d, %v", n, len(b), err)
		}
		z, err := zlib.NewReader(bytes.NewReader(zlibbed(n)))
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(z); err != nil || len(b) != n {
			t.Errorf("%d bytes: %d, %v", n, len(b), err)
		}
	}
}
