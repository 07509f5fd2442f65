package rest

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"storaged/internal/operation"
)

// A content of which nobody knows the length comes without one: net/http would leave it out
// too, and complain of us.
func TestLengthIsGivenOnlyWhereItIsKnown(t *testing.T) {
	for what, want := range map[string]struct {
		asked  span
		form   string
		length string
		status int
	}{
		"the file of an image": {allOfImage, operation.RawForm, "", http.StatusOK},
		"a volume":             {span{len: 10}, operation.RawForm, "10", http.StatusOK},
		"an empty volume":      {span{}, operation.RawForm, "0", http.StatusOK},
		"a part":               {span{1, 4, true}, operation.RawForm, "4", http.StatusPartialContent},
		"what is not holes":    {span{len: 10}, operation.SparseForm, "", http.StatusOK},
	} {
		c := &call{ResponseWriter: httptest.NewRecorder()}
		if status := c.setSpan(want.asked, 10, want.form); status != want.status || c.Header().Get("Content-Length") != want.length {
			t.Errorf("%s: status %d, length %q", what, status, c.Header().Get("Content-Length"))
		}
	}
}
