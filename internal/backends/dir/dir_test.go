package dir

import (
	"errors"
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

// contract tests pools below a directory.
func contract(t *testing.T, dir string) {
	s := backendtest.Suite{New: poolsBelow(dir)}
	backendtest.Run(t, s)
	backendtest.RunTree(t, s)
	backendtest.RunDirectory(t, s)
}

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
	contract(t, t.TempDir())
}

func TestContractOnOtherFileSystems(t *testing.T) {
	for _, kind := range []string{"ext4", "xfs", "btrfs", "tmpfs"} {
		t.Run(kind, func(t *testing.T) {
			contract(t, testenv.Mount(t, kind))
		})
	}
}

// Files on an overlay have the numbers of the layers that they lie in, which are on two file
// systems here.
func TestContractOnAnOverlay(t *testing.T) {
	contract(t, testenv.Overlay(t, testenv.Mount(t, "tmpfs"), testenv.Mount(t, "ext4")))
}

// vfat has neither links nor owners and modes, and so nothing that those who test a
// pool's directory put there. Nor has it inodes that last.
func TestContractOnVFAT(t *testing.T) {
	testenv.Kernel(t, "vfat")
	const numbers = "the inode of what is gone is that of what is made next, and times are those of two seconds"
	backendtest.Run(t, backendtest.Suite{
		New: poolsBelow(testenv.Mount(t, "vfat")),
		Except: map[string]string{
			"another pool than the one meant is left alone": numbers,
			"settling keeps a source that is not":           numbers,
			"a volume is known again":                       numbers,
			"odd ones are names and nothing else":           "some characters are in no name there",
		},
	})
}

// What shows the kernel stores no volumes.
func TestKernelFileSystemIsNoPool(t *testing.T) {
	for _, target := range []string{"/proc", "/proc/self", "/sys/class"} {
		if err := New().Start(t.Context(), backends.Pool{Type: "dir", Target: target}); !errors.Is(err, backends.ErrUnsupported) {
			t.Errorf("%s: %v", target, err)
		}
		for _, at := range []string{target, target + "/storaged-none"} {
			if err := New().(backends.Builder).Build(t.Context(), backends.Pool{Type: "dir", Target: at}, false); !errors.Is(err, backends.ErrUnsupported) {
				t.Errorf("built at %s: %v", at, err)
			}
		}
	}
}

// BenchmarkRefresh is for a pool of a thousand volumes.
func BenchmarkRefresh(b *testing.B) {
	p := backends.Pool{Type: "dir", Target: b.TempDir()}
	for i := range 1000 {
		if err := os.WriteFile(filepath.Join(p.Target, fmt.Sprint(i)), make([]byte, 4096), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		_, err := New().Refresh(b.Context(), p, func(backends.VolumeInfo) error { return nil })
		if err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCreate is for an empty volume, durable at the end.
func BenchmarkCreate(b *testing.B) {
	p := backends.Pool{Type: "dir", Target: b.TempDir()}
	for i := 0; b.Loop(); i++ {
		d, err := (Backend{}).Create(b.Context(), p, backends.NewVolume{Name: fmt.Sprint(i), Job: "job"})
		if err != nil {
			b.Fatal(err)
		}
		if err := d.Commit(b.Context(), func([]byte) error { return nil }); err != nil {
			b.Fatal(err)
		}
		if err := d.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	p := backends.Pool{Type: "dir", Target: b.TempDir()}
	if err := os.WriteFile(filepath.Join(p.Target, "a"), nil, 0o600); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		v, err := New().Open(b.Context(), p, "a", backends.WriteExclusive)
		if err != nil {
			b.Fatal(err)
		}
		if err := v.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
