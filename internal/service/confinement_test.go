package service

import (
	"strings"
	"testing"

	"storaged/internal/confine"
	"storaged/internal/record"
)

func TestHostThatConfinesLessThanIsAskedTakesNoJobs(t *testing.T) {
	full := confine.Level{Landlock: 7, Seccomp: true}
	partly := confine.Level{Seccomp: true, Lacks: []string{"the kernel has no Landlock"}}
	for _, c := range []struct {
		minimum string
		host    confine.Level
		refused bool
	}{
		{record.NotConfined, confine.Level{}, false},
		{record.ConfinedPartly, confine.Level{Lacks: []string{"nothing"}}, true},
		{record.ConfinedPartly, partly, false},
		{record.ConfinedFully, partly, true},
		{record.ConfinedFully, full, false},
	} {
		err := HelpersConfig{Confinement: c.minimum}.refusal(c.host)
		if (err != nil) != c.refused {
			t.Errorf("minimum %s on a host with %v: %v", c.minimum, c.host, err)
		}
		if err != nil && (record.CodeOf(err) != record.Unsupported || !strings.Contains(err.Error(), c.host.Lacks[0])) {
			t.Errorf("the refusal is %v", err)
		}
	}
	if err := (HelpersConfig{Confinement: "much"}).check(); record.CodeOf(err) != record.Invalid {
		t.Errorf("a word that is none: %v", err)
	}
}
