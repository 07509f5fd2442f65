package record

import (
	"strings"
	"testing"
)

func TestSourcesMeetWhereTheyNameTheSameStorage(t *testing.T) {
	for _, c := range []struct {
		a, b Source
		want bool
	}{
		{Source{}, Source{}, false},
		{Source{Devices: []string{"/dev/a"}}, Source{Devices: []string{"/dev/b", "/dev/a"}}, true},
		{Source{Devices: []string{"/dev/a"}}, Source{Devices: []string{"/dev/b"}}, false},
		{Source{Hosts: []string{"h"}, Devices: []string{"iqn"}}, Source{Hosts: []string{"h"}, Devices: []string{"iqn"}}, true},
		{Source{Hosts: []string{"h"}, Devices: []string{"iqn"}}, Source{Hosts: []string{"g"}, Devices: []string{"iqn"}}, false},
		{Source{Hosts: []string{"h"}, Path: "/x"}, Source{Hosts: []string{"h"}, Path: "/x", Format: "nfs"}, true},
		{Source{Hosts: []string{"h"}, Path: "/x"}, Source{Hosts: []string{"h"}, Path: "/y"}, false},
	} {
		if got := c.a.Meets(c.b); got != c.want || c.b.Meets(c.a) != c.want {
			t.Errorf("%+v and %+v: %v", c.a, c.b, got)
		}
	}
}

func TestSourcesThatNobodyCanShowAreRefused(t *testing.T) {
	for _, s := range []Source{
		{Hosts: []string{"h"}, Username: "u"},
		{Hosts: []string{"h"}, Secret: "s"},
		{Hosts: []string{"h"}, Username: "u", Secret: "a/b"},
		{Hosts: []string{"h"}, Username: "u\n", Secret: "s"},
		{Name: "a\nb"}, {Devices: []string{strings.Repeat("x", MaxSourceText+1)}}, {Hosts: make([]string, MaxSources+1)}, {Options: map[string]string{"": "x"}}, {Options: map[string]string{"a": "\x1b"}},
	} {
		if err := s.Check(); CodeOf(err) != Invalid {
			t.Errorf("%.80v: %v", s, err)
		}
	}
	if err := (Source{Devices: []string{"/dev/a b"}, Options: map[string]string{"data": "ordered", "ro": ""}}).Check(); err != nil {
		t.Error(err)
	}
}
