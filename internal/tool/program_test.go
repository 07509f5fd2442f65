package tool

import (
	"errors"
	"testing"
	"time"
)

// A program that is installed, or goes, is noticed within foundFor, and also when the
// clock was set back.
func TestWhatWasFoundCountsForAMoment(t *testing.T) {
	var f finds
	start, none := time.Now().Round(0), errors.New("it is not there")
	for i, step := range []struct {
		after     time.Duration
		is        string
		err       error
		want      string
		wantError error
	}{
		{0, "", none, "", none},
		{foundFor - 1, "/bin/a", nil, "", none},
		{foundFor, "/bin/a", nil, "/bin/a", nil},
		{2*foundFor - 1, "", none, "/bin/a", nil},
		{2 * foundFor, "", none, "", none},
		{foundFor, "/bin/b", nil, "/bin/b", nil},
	} {
		got, err := f.of("a", start.Add(step.after), func() (string, error) { return step.is, step.err })
		if got != step.want || !errors.Is(err, step.wantError) {
			t.Errorf("step %d: %q, %v", i, got, err)
		}
	}
	if got, _ := f.of("b", start, func() (string, error) { return "/bin/other", nil }); got != "/bin/other" {
		t.Errorf("another program is at %q", got)
	}
}
