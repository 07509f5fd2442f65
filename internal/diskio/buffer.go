package diskio

import "unsafe"

// alignment of buffers, offsets and lengths satisfies O_DIRECT on every device
// with sectors of up to a page.
const alignment = 4096

// alignedBuffer makes a buffer that O_DIRECT accepts.
func alignedBuffer(n int) []byte {
	b := make([]byte, n+alignment)
	skip := -int(uintptr(unsafe.Pointer(&b[0]))) & (alignment - 1)
	return b[skip : skip+n : skip+n]
}
