package service

import (
	"testing"
)

func TestLabelsAreAlternatives(t *testing.T) {
	has := map[string]string{"a": "1", "b": ""}
	for _, c := range []struct {
		wanted []string
		want   bool
	}{
		{nil, true}, {[]string{"a=1"}, true}, {[]string{"a=2"}, false}, {[]string{"a=2", "a=1"}, true},
		{[]string{"b="}, true}, {[]string{"c="}, false}, {[]string{"c=1", "d=1"}, false},
	} {
		if got := matchLabels(c.wanted, has); got != c.want {
			t.Errorf("of labels %v one is %q: %v", has, c.wanted, got)
		}
	}
}

// Nothing is shared between disks; of a pool whose disk is not known nobody can say.
func TestDisjointDisks(t *testing.T) {
	for _, c := range []struct {
		a, b []string
		want bool
	}{
		{[]string{"8:0"}, []string{"8:16"}, true}, {[]string{"8:0", "8:16"}, []string{"8:16"}, false}, {nil, []string{"8:0"}, false}, {[]string{"8:0"}, nil, false},
	} {
		if got := disjoint(c.a, c.b); got != c.want {
			t.Errorf("%q and %q: %v", c.a, c.b, got)
		}
	}
}
