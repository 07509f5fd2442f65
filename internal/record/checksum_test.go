package record_test

import (
	"strings"
	"testing"

	"storaged/internal/record"
)

func TestParseContentChecksum(t *testing.T) {
	hex := strings.Repeat("aB", 32)
	for _, c := range []struct{ given, algorithm, want string }{
		{"sha256", record.SHA256, ""}, {"crc32c", record.CRC32C, ""}, {"CRC32C:0aFf0102", record.CRC32C, "crc32c:0aff0102"},
		{"sha256:" + hex, record.SHA256, "sha256:" + strings.ToLower(hex)},
	} {
		algorithm, want, err := record.ParseContentChecksum(c.given)
		if algorithm != c.algorithm || want != c.want || err != nil {
			t.Errorf("%q: %q, %q, %v", c.given, algorithm, want, err)
		}
	}
	for _, bad := range []string{"", "md5", "sha256:", "sha256:abcd", "crc32c:0aff01", "crc32c:0aff010g", "crc32c:" + hex, "0aff0102"} {
		if _, _, err := record.ParseContentChecksum(bad); err == nil {
			t.Errorf("%q is taken for a checksum", bad)
		}
	}
}
