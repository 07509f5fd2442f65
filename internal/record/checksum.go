package record

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// checksumPrefix names the algorithm of contents at rest; checksumBytes is its
// length.
const (
	checksumPrefix = "sha256:"
	checksumBytes  = 32
)

// Algorithms of checksums that are taken while a content is moved. CRC-32C
// costs next to nothing and keeps holes cheap; it finds what broke and not what
// was forged. SHA-256 reads all in order, holes too.
const (
	SHA256 = "sha256"
	CRC32C = "crc32c"
)

// sumBytes is how long the checksums of an algorithm are.
var sumBytes = map[string]int{SHA256: checksumBytes, CRC32C: 4}

// ParseContentChecksum reads what is asked of a transfer's checksum: an
// algorithm, or a checksum that the content must have, ALGORITHM:HEX. It gives
// the latter as ContentChecksum does, "" without.
func ParseContentChecksum(s string) (algorithm, want string, err error) {
	algorithm, digits, given := strings.Cut(strings.ToLower(s), ":")
	size, known := sumBytes[algorithm]
	b, err := hex.DecodeString(digits)
	if !known || given && (err != nil || len(b) != size) {
		return "", "", fmt.Errorf("bad checksum %.80q: write %s or %s, alone or with a colon and hexadecimal digits", s, SHA256, CRC32C)
	}
	if given {
		want = ContentChecksum(algorithm, b)
	}
	return algorithm, want, nil
}

// ContentChecksum writes a checksum.
func ContentChecksum(algorithm string, sum []byte) string {
	return algorithm + ":" + hex.EncodeToString(sum)
}

// ParseChecksum gives a checksum in the one form in which it is kept and
// compared: "sha256:" and 64 lower-case hexadecimal digits. Upper case is read
// too.
func ParseChecksum(s string) (string, error) {
	low := strings.ToLower(s)
	digits, ok := strings.CutPrefix(low, checksumPrefix)
	if b, err := hex.DecodeString(digits); !ok || err != nil || len(b) != checksumBytes {
		return "", fmt.Errorf("bad checksum %.80q: write %s and 64 hexadecimal digits", s, checksumPrefix)
	}
	return low, nil
}

// Checksum writes the SHA-256 of a content.
func Checksum(sum [checksumBytes]byte) string { return checksumPrefix + hex.EncodeToString(sum[:]) }
