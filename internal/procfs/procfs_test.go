package procfs

import "testing"

func TestPathsOfTheKernel(t *testing.T) {
	for in, want := range map[string]string{`/a\040b\012c\134d`: "/a b\nc\\d", `/a\04`: `/a\04`, `\999`: `\999`, "": ""} {
		if got := Unescape(in); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
}
