package format

import "bytes"

// Packing is a form that a disk's content is in, and By a program that writes
// what is in it to its standard output.
type Packing struct{ Name, By string }

// packings are forms that a disk's content is sent or kept in, and has to be
// taken out of before it is one.
var packings = []struct {
	Packing
	magic string
	at    int
	more  func(b []byte) bool // of a magic that is short; nil: it is long enough
}{
	{Packing{"gzip", "zcat"}, "\x1f\x8b\x08", 0, gzipFlags},
	{Packing{"xz", "xzcat"}, "\xfd7zXZ\x00", 0, nil},
	{Packing{"bzip2", "bzcat"}, "BZh", 0, bzip2Block},
	{Packing{"zstd", "zstdcat"}, "\x28\xb5\x2f\xfd", 0, nil},
	{Packing{"lz4", "lz4cat"}, "\x04\x22\x4d\x18", 0, nil},
	{Packing{"lzip", "lzip -dc"}, "LZIP\x01", 0, nil},
	{Packing{"zip", "unzip -p"}, "PK\x03\x04", 0, nil},
	{Packing{"zip", "unzip -p"}, "PK\x05\x06", 0, nil},
	{Packing{"zip", "unzip -p"}, "PK\x07\x08PK", 0, nil},
	{Packing{"7z", "7z e -so"}, "7z\xbc\xaf\x27\x1c", 0, nil},
	{Packing{"tar", "tar -xO"}, "ustar\x00", 257, nil},
	{Packing{"tar", "tar -xO"}, "ustar  \x00", 257, nil},
}

// Packed tells by its first bytes what a content is packed in, no name if in
// nothing that is known here. 512 bytes are enough.
func Packed(b []byte) Packing {
	for _, p := range packings {
		if bytes.HasPrefix(from(b, p.at), []byte(p.magic)) && (p.more == nil || p.more(b)) {
			return p.Packing
		}
	}
	return Packing{}
}

// gzipFlags reports whether the flags behind the magic are such as there can be
// (RFC 1952): three of them are reserved.
func gzipFlags(b []byte) bool { return len(b) >= 10 && b[3]&0xe0 == 0 }

// bzip2Block reports whether a level and a first block, or the end, follow.
func bzip2Block(b []byte) bool {
	if len(b) < 10 || b[3] < '1' || b[3] > '9' {
		return false
	}
	next := string(b[4:10])
	return next == "\x31\x41\x59\x26\x53\x59" || next == "\x17\x72\x45\x38\x50\x90"
}

// from is b from the offset on, empty behind its end.
func from(b []byte, at int) []byte { return b[min(at, len(b)):] }
