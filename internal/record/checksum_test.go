package record_test

import (
	"crypto/sha256"
	"strings"
	"testing"

	"storaged/internal/record"
)

func TestChecksumIsReadAsItIsWritten(t *testing.T) {
	want := record.Checksum(sha256.Sum256([]byte("foo\n")))
	for _, s := range []string{want, strings.ToUpper(want)} {
		if got, err := record.ParseChecksum(s); err != nil || got != want {
			t.Errorf("%q is read as %q, %v", s, got, err)
		}
	}
}

func TestWhatIsNoChecksumIsRefused(t *testing.T) {
	good := record.Checksum(sha256.Sum256(nil))
	for _, s := range []string{"", "sha256:", good[:len(good)-1], good + "0", "sha256:" + strings.Repeat("g", 64), "md5:" + good[7:], good[7:], " " + good} {
		if got, err := record.ParseChecksum(s); err == nil {
			t.Errorf("%q is read as %q", s, got)
		}
	}
}
