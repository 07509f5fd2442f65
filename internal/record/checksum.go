package record

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// checksumPrefix names the only algorithm; checksumBytes is its length.
const (
	checksumPrefix = "sha256:"
	checksumBytes  = 32
)

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
