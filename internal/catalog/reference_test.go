package catalog

import (
	"errors"
	"testing"

	"storaged/internal/record"
)

// What stands on a volume keeps it, and the refusal says how each kind of that is made to
// need it no more.
func TestWhatStandsOnAVolumeIsNamedWithAWay(t *testing.T) {
	for _, c := range []struct {
		names []string
		hint  string
	}{
		{[]string{"p/a", "p/b"}, "delete those first, or make them independent of it: volume flatten p/a"},
		{[]string{"p/a@one", "p/a@two"}, "delete those first: snapshot delete p/a@one"},
		{[]string{"p/a@one", "p/b"}, "delete those first, a snapshot by snapshot delete p/a@one; a volume can be made independent of it instead: volume flatten p/b"},
	} {
		e, ok := errors.AsType[*record.Error](backing("volume \"p/base\" backs", c.names))
		if !ok || e.Code != record.HasChildren || e.Hint.String() != c.hint {
			t.Errorf("%q: %v, not %q", c.names, e.Hint, c.hint)
		}
	}
}
