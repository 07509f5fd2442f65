package dir

import (
	"os"
	"path/filepath"
	"testing"

	"storaged/internal/backends"
	"storaged/internal/diskio"
	"storaged/internal/testenv"
)

const label = "system_u:object_r:virt_image_t:s0"

// A directory is built with the rights that are asked for, also one that is there; what is
// not said of them stays as it is. A look at the pool tells them.
func TestBuildGivesTheRightsThatAreAskedFor(t *testing.T) {
	testenv.Root(t)
	driver := Backend{}
	p := backends.Pool{Type: "dir", Target: filepath.Join(t.TempDir(), "a", "pool")}
	for _, step := range []struct {
		rights diskio.Rights
		is     string
	}{
		{diskio.Rights{Owner: new(uint32(107)), Group: new(uint32(108)), Mode: new(uint32(0o750)), Label: label}, "0750 107:108 " + label},
		{diskio.Rights{}, "0750 107:108 " + label},
		{diskio.Rights{Mode: new(uint32(0o700))}, "0700 107:108 " + label},
	} {
		p.Rights = step.rights
		if err := driver.Build(t.Context(), p, false); err != nil {
			t.Fatal(err)
		}
		info, err := driver.Space(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		if is := info.Permissions.String(); is != step.is {
			t.Errorf("%+v: it is %s, not %s", step.rights, is, step.is)
		}
	}
	if st, err := os.Stat(filepath.Dir(p.Target)); err != nil || st.Mode().Perm() != 0o755 {
		t.Errorf("the directory above: %v, %v", st.Mode(), err)
	}
}
