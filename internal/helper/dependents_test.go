package helper

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"storaged/internal/record"
)

// overlaying makes the header of a qcow2 image that stands on a file.
func overlaying(t *testing.T, path, backing string) {
	t.Helper()
	b := make([]byte, 4096)
	copy(b, "QFI\xfb\x00\x00\x00\x03")
	binary.BigEndian.PutUint64(b[8:], 512)
	binary.BigEndian.PutUint32(b[16:], uint32(copy(b[512:], backing)))
	binary.BigEndian.PutUint64(b[24:], 1<<20)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestByHandWhatAnImageBesideNeedsIsKept(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"base", "alone"} {
		if err := os.WriteFile(at(name), make([]byte, 8192), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	overlaying(t, at("child"), "./"+"../"+filepath.Base(dir)+"//base")
	for _, args := range [][]string{
		{"delete", "--target", at("base"), "--yes"},
		{"wipe", "--target", at("base"), "--yes"},
		{"upload", "--target", at("base"), "--source", at("alone"), "--yes"},
		{"resize", "--target", at("base"), "--capacity", "4K", "--shrink", "--yes"},
		{"move", "--source", at("base"), "--target", at("moved")},
	} {
		out, err := exec.Command(helper, args...).CombinedOutput()
		exit, ok := err.(*exec.ExitError)
		if !ok || exit.ExitCode() != record.ExitBusy || !strings.Contains(string(out), "child") {
			t.Errorf("%q: %v, %s", args, err, out)
		}
	}
	if st, err := os.Stat(at("base")); err != nil || st.Size() != 8192 {
		t.Errorf("it was touched: %v", err)
	}
	out, err := exec.Command(helper, "clone", "--source", at("child"), "--target", filepath.Join(elsewhere, "copy")).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "does not find") {
		t.Errorf("clone: %v, %s", err, out)
	}
	for _, name := range []string{"child", "base"} {
		if out, err := exec.Command(helper, "delete", "--target", at(name), "--yes").CombinedOutput(); err != nil {
			t.Errorf("delete of %s: %v, %s", name, err, out)
		}
	}
}

// Who says that a volume is an image has it looked at under its lock.
func TestCopyOfWhatIsSaidToBeAnImage(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	from, to := filepath.Join(dir, "child"), filepath.Join(elsewhere, "copy")
	overlaying(t, from, "base")
	for _, args := range [][]string{
		{"clone", "--source", from, "--target", to, "--format", "qcow2"}, {"move", "--source", from, "--target", to, "--format", "qcow2"},
	} {
		out, err := exec.Command(helper, args...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), `does not find "base" from its new place; nothing was done`) {
			t.Errorf("%q: %v, %s", args, err, out)
		}
	}
	if out, err := exec.Command(helper, "clone", "--source", from, "--target", to, "--format", "raw").CombinedOutput(); err != nil {
		t.Errorf("raw: %v, %s", err, out)
	}
}

func TestByHandAnEvacuationLeavesWhatImagesNeed(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"alone", "base"} {
		if err := os.WriteFile(at(name), make([]byte, 8192), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	overlaying(t, at("child"), at("base"))
	out, err := exec.Command(helper, "evacuate", "--target", dir, "--to", elsewhere, "--only", "[ab]*").CombinedOutput()
	exit, ok := err.(*exec.ExitError)
	if !ok || exit.ExitCode() != record.ExitPartial {
		t.Errorf("%v, %s", err, out)
	}
	for path, there := range map[string]bool{at("base"): true, at("child"): true, at("alone"): false, filepath.Join(elsewhere, "alone"): true} {
		if _, err := os.Stat(path); (err == nil) != there {
			t.Errorf("%q is there: %v\n%s", path, err == nil, out)
		}
	}
}
