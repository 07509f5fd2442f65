package filetree

import (
	"strings"
	"testing"

	"storaged/internal/tool"
)

func TestMissingProgramIsNamedWithItsPackages(t *testing.T) {
	gone := tool.Program{Name: "no-such-program", Debian: "deb-package", Fedora: "rpm-package"}
	said := tool.Lacking(gone)
	for _, word := range []string{gone.Name, gone.Debian, gone.Fedora} {
		if !strings.Contains(said, word) {
			t.Errorf("%q lacks %s", said, word)
		}
	}
	if said := tool.Lacking(); said != "" {
		t.Errorf("nothing is missing, and it says %q", said)
	}
}
