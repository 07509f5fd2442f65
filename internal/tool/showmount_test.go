package tool

import (
	"slices"
	"testing"
)

func TestExportsAreRead(t *testing.T) {
	said := "/srv/images         (everyone)\n/srv/with two  words 10.0.0.0/8,*.example.org\n/srv/a*\n/\t*\nnothing of the kind\n"
	if got, want := parseExports(said), []string{"/srv/images", "/srv/with two  words", "/"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
