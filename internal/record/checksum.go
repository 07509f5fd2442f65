package record

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"strings"
)

// Algorithms of checksums. CRC-32C
// costs next to nothing and keeps holes cheap; it finds what broke and not what
// was forged. SHA-256 reads all in order, holes too.
const (
	SHA256 = "sha256"
	CRC32C = "crc32c"
)

// sumBytes is how long the checksums of an algorithm are.
var sumBytes = map[string]int{SHA256: sha256.Size, CRC32C: crc32.Size}

// ParseContentChecksum reads what is asked of a checksum: an
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

// Checksum writes the SHA-256 of a content.
func Checksum(sum [sha256.Size]byte) string { return ContentChecksum(SHA256, sum[:]) }
