package transfer

import (
	"bytes"
	"io"
	"math"
	"strings"
	"testing"

	"storaged/internal/operation"
	"storaged/internal/sparse"
)

// A content may be announced with any length that a number can have.
func TestContentOfTheGreatestLengthIsTaken(t *testing.T) {
	for _, exact := range []bool{false, true} {
		var out bytes.Buffer
		err := Content{Form: operation.RawForm, Length: new(int64(math.MaxInt64)), Exact: exact}.copy(&out, strings.NewReader("content"))
		r := sparse.NewReader(&out)
		if _, _, nerr := r.Next(); err != nil || nerr != nil {
			t.Fatalf("exact %t: %v, %v", exact, err, nerr)
		}
		if b, err := io.ReadAll(r); string(b) != "content" || err != nil {
			t.Errorf("exact %t: got %q, %v", exact, b, err)
		}
	}
}
