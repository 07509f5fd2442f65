package virtrpc_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"storaged/internal/service/contract"
	"storaged/internal/testenv"
	"storaged/internal/virtrpc/virtrpctest"
)

// The bindings of libvirt for other languages do everything with storage.
func TestBindingsDoStorage(t *testing.T) {
	t.Parallel()
	h := virtrpctest.NewHost(t)
	for _, b := range []struct{ program, script, there string }{
		{"/usr/bin/python3", "bindings.py", "/usr/lib/python3/dist-packages/libvirt.py"}, {"perl", "bindings.pl", "/var/lib/dpkg/info/libsys-virt-perl.list"},
	} {
		t.Run(b.script, func(t *testing.T) {
			_, err := os.Stat(b.there)
			testenv.Need(t, "libvirt's binding for "+b.program, err == nil)
			allDone(t, b.program, b.script, h.URI(), filepath.Join(h.Dir, filepath.Base(b.program)))
		})
	}
}

// allDone runs a script that says so at its end.
func allDone(t *testing.T, program, script string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), virtrpctest.Patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, testenv.Tool(t, program), append([]string{filepath.Join("testdata", script)}, args...)...).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "all done") {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}

// What virt-install, virt-clone and virt-manager share makes pools and disks, and its
// progress bar shows how far a job is.
func TestVirtinstMakesDisks(t *testing.T) {
	t.Parallel()
	_, err := os.Stat("/usr/share/virt-manager/virtinst")
	testenv.Need(t, "virtinst", err == nil)
	h := virtrpctest.NewHost(t)
	// virtinst looks once a second how far a job is, which lasts for six.
	if _, err := h.Service.PatchLimits(t.Context(), contract.LimitsPatch{Rate: []byte("700000")}); err != nil {
		t.Fatal(err)
	}
	allDone(t, "/usr/bin/python3", "virtinst.py", h.URI(), filepath.Join(h.Dir, "virtinst"))
}
