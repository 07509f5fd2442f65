package main_test

import (
	"os"
	"testing"
	"time"

	"storaged/internal/testenv"
)

// What is mounted on a subdirectory of a pool is no business of the pool's: if
// it does not answer nobody has to wait for it.
func TestDeadMountBelowAPoolKeepsNobodyWaiting(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.otherPool("tmpfs")
	h.sparse("disk", mib)
	h.must(os.Mkdir(h.path("sub"), 0o755))
	wake := testenv.SilentOn(t, h.path("sub"))
	defer time.AfterFunc(30*time.Second, wake).Stop() // a helper that waits for it ends then, and fails
	h.runs(0, "", "pool", "refresh", "pool")
	h.runs(0, "disk", "vol", "list", "pool", "--fresh")
	h.runs(0, "", "pool", "verify", "pool")
	h.runs(0, "", "pool", "stop", "pool")
	h.runs(0, "", "pool", "start", "pool")
	h.runs(0, "", "pool", "evacuate", "pool", "--to", "other", "--yes")
	wake()
}
