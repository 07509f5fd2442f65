package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"storaged/internal/record"
	"storaged/internal/testenv"

	"golang.org/x/sys/unix"
)

// What stays in a lower layer of an overlay is no wiped content: it is refused,
// and said in the last line where it is accepted.
func TestWipeOfWhatALowerLayerKeeps(t *testing.T) {
	t.Parallel()
	testenv.Root(t)
	h := newHost(t)
	base := t.TempDir()
	for _, name := range []string{"lower", "upper", "work", "pool"} {
		h.must(os.Mkdir(filepath.Join(base, name), 0o755))
	}
	for _, name := range []string{"wiped", "deleted", "asked"} {
		h.must(os.WriteFile(filepath.Join(base, "lower", name), noise(mib), 0o600))
	}
	dir := filepath.Join(base, "pool")
	h.must(unix.Mount("overlay", dir, "overlay", 0, fmt.Sprintf("lowerdir=%s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", base)))
	t.Cleanup(func() { testenv.Unmount(t, dir) })
	h.define("layers", dir)
	h.runs(record.ExitUnsupported, "--accept-limits", "vol", "wipe", "layers/wiped", "--verify", "--yes")
	h.runs(record.ExitUnsupported, "--accept-limits", "vol", "delete", "layers/deleted", "--wipe", "--yes")
	h.fails(h.end(h.remove("layers/asked", wipeFirst("zero"))), record.Unsupported)
	h.leavesLayers(base)
	for _, args := range [][]string{
		{"vol", "wipe", "layers/wiped", "--verify", "--accept-limits", "--yes"},
		{"vol", "delete", "layers/deleted", "--wipe", "--accept-limits", "--yes"},
	} {
		_, errs, code := h.ctl(args...)
		lines := strings.Split(strings.TrimSpace(errs), "\n")
		if last := lines[len(lines)-1]; code != 0 || !strings.Contains(last, "lower layer") {
			t.Errorf("%q: exit %d, %s", args, code, errs)
		}
	}
	h.refuses(record.Invalid)(h.remove("layers/asked", acceptLimits))
	h.succeed(h.remove("layers/asked", wipeFirst("zero"), acceptLimits))
}

// leavesLayers fails unless all that an overlay shows lies in its lower layer.
func (h *host) leavesLayers(base string) {
	h.t.Helper()
	if up := must(os.ReadDir(filepath.Join(base, "upper")))(h.t); len(up) > 0 {
		h.t.Errorf("what is refused has made %v in the upper layer", up)
	}
}

// To open for writing what lies in a lower layer of an overlay makes a copy of it: who is
// refused a volume that is in use makes none.
func TestRefusedJobMakesNoCopyInTheUpperLayer(t *testing.T) {
	t.Parallel()
	testenv.Root(t)
	h := newHost(t)
	lower, base := t.TempDir(), t.TempDir()
	h.must(os.WriteFile(filepath.Join(lower, "used"), noise(mib), 0o600))
	upper := filepath.Join(base, "layers")
	dir := testenv.Overlay(t, lower, base)
	h.define("layers", dir)
	used := must(os.Open(filepath.Join(dir, "used")))(t)
	defer used.Close()
	h.fails(h.end(h.wipe("layers/used", acceptLimits)), record.Busy)
	h.fails(h.end(h.remove("layers/used")), record.Busy)
	h.leavesLayers(upper)
}
