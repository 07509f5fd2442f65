package helper

import (
	"strings"
	"testing"

	"storaged/internal/confine"
	"storaged/internal/record"
)

// A helper that can give up less than is asked says how far it came, and does nothing.
func TestHelperDoesNothingWhereItIsConfinedLessThanIsAsked(t *testing.T) {
	partly := confine.Level{Seccomp: true, Lacks: []string{"the kernel has no Landlock"}}
	for _, c := range []struct {
		least   string
		level   confine.Level
		refused bool
	}{
		{"", confine.Level{}, false},
		{record.NotConfined, confine.Level{}, false},
		{record.ConfinedPartly, partly, false},
		{record.ConfinedFully, partly, true},
		{record.ConfinedFully, confine.Level{Landlock: 7, Seccomp: true}, false},
	} {
		r := &Run{least: c.least}
		err := r.enough(c.level)
		if (err != nil) != c.refused {
			t.Errorf("asked for %q, confined %v: %v", c.least, c.level, err)
		}
		if err == nil {
			continue
		}
		for _, said := range []string{`"partial"`, `"full"`, "no Landlock"} {
			if !strings.Contains(err.Error(), said) {
				t.Errorf("%v does not say %s", err, said)
			}
		}
	}
}
