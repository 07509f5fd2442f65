package dir

import (
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"storaged/internal/backends"
	"storaged/internal/backends/backendtest"
	"storaged/internal/testenv"
)

func TestMain(m *testing.M) { backendtest.Main(m, New()) }

// poolsBelow gives pools below a directory, each alone in one of its own.
func poolsBelow(dir string) func(t *testing.T) (backends.Backend, backends.Pool) {
	var count atomic.Int64
	return func(t *testing.T) (backends.Backend, backends.Pool) {
		own := filepath.Join(dir, fmt.Sprint(count.Add(1)))
		if err := os.Mkdir(own, 0o755); err != nil {
			t.Fatal(err)
		}
		return New(), backends.Pool{Type: "dir", Target: filepath.Join(own, "pool")}
	}
}

func TestContract(t *testing.T) {
	backendtest.Run(t, backendtest.Suite{New: poolsBelow(t.TempDir()), Dir: true})
}

func TestContractOnOtherFileSystems(t *testing.T) {
	for _, kind := range []string{"ext4", "xfs", "btrfs", "tmpfs"} {
		t.Run(kind, func(t *testing.T) {
			backendtest.Run(t, backendtest.Suite{New: poolsBelow(testenv.Mount(t, kind)), Dir: true})
		})
	}
}
