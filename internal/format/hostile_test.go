package format_test

import (
	"slices"
	"strings"
	"testing"

	"storaged/internal/format"
	"storaged/internal/format/formattest"
)

var bait = formattest.Bait{File: "/srv/canary", Socket: "/run/canary.sock"}

// Every hostile image is known for what it is, and what is wrong with it is said.
func TestHostileImagesAreSeenThrough(t *testing.T) {
	all := formattest.Corpus(bait)
	names := map[string]bool{}
	for _, c := range all {
		if names[c.Name] {
			t.Errorf("%s: there are two", c.Name)
		}
		names[c.Name] = true
		got, err := format.Inspect(c, c.Size)
		if err != nil {
			t.Errorf("%s: %v", c.Name, err)
		}
		if got.Format != c.Format || got.Backing != c.Backing || !slices.Equal(got.Data, c.Data) {
			t.Errorf("%s: format is %s, backing %q, data %q; want %s, %q, %q", c.Name, got.Format, got.Backing, got.Data, c.Format, c.Backing, c.Data)
		}
		if !strings.Contains(got.Problem, c.Problem) || (got.Problem == "") != (c.Problem == "") {
			t.Errorf("%s: the problem is %q, want %q", c.Name, got.Problem, c.Problem)
		}
	}
	if len(all) < 80 {
		t.Errorf("there are only %d", len(all))
	}
	t.Logf("%d hostile images", len(all))
}
