package virtrpc_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"storaged/internal/testenv"
	"storaged/internal/virtrpc/virtrpctest"
)

// The bindings of libvirt for other languages do everything with storage.
func TestBindingsDoStorage(t *testing.T) {
	h := virtrpctest.NewHost(t)
	for _, b := range []struct{ program, script, there string }{
		{"/usr/bin/python3", "bindings.py", "/usr/lib/python3/dist-packages/libvirt.py"}, {"perl", "bindings.pl", "/var/lib/dpkg/info/libsys-virt-perl.list"},
	} {
		t.Run(b.script, func(t *testing.T) {
			_, err := os.Stat(b.there)
			testenv.Need(t, "libvirt's binding for "+b.program, err == nil)
			ctx, cancel := context.WithTimeout(t.Context(), virtrpctest.Patience)
			defer cancel()
			out, err := exec.CommandContext(ctx, testenv.Tool(t, b.program), filepath.Join("testdata", b.script), h.URI(), filepath.Join(h.Dir, filepath.Base(b.program))).CombinedOutput()
			if err != nil || !strings.Contains(string(out), "all done") {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}
