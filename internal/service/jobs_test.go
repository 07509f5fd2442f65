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
