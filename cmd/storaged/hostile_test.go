package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"storaged/internal/confine"
	"storaged/internal/confine/confinetest"
	"storaged/internal/operation"
	"storaged/internal/service/contract"
	"storaged/internal/testenv"
)

// A helper that was taken over by what it read gets nowhere, and the daemon goes on as if
// nothing had been.
func TestHelperThatWasTakenOverHarmsNobody(t *testing.T) {
	t.Parallel()
	testenv.Need(t, "a kernel that confines fully", confine.Available().Word() == confine.Full)
	dir := t.TempDir()
	hostile := filepath.Join(dir, "storage-helper")
	if out, err := exec.Command("go", "build", "-o", hostile, "storaged/internal/helper/hostiletest").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.Symlink(filepath.Join(bin, "storage-helper"), filepath.Join(dir, "real")); err != nil {
		t.Fatal(err)
	}
	s := confinetest.NewScene(t)
	if err := os.WriteFile(filepath.Join(dir, "scene"), []byte(s.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	h := configured(t, "helper = \""+hostile+"\"\n")
	before := h.random("v", 1<<20)
	j := h.succeed(h.client.Start(h.ctx(), contract.Submit{}, "pool", "v", &operation.WipeRequest{}))
	if j.Result == nil || j.Result.Bytes < 30 {
		t.Fatalf("nothing was tried: %s", shown(j))
	}
	for _, w := range j.Warnings {
		t.Error(w)
	}
	if h.hash("v") != before {
		t.Error("the volume was changed")
	}
	h.random("after", 1<<20)
}
