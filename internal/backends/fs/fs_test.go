package fs

import (
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"storaged/internal/backends"
	"storaged/internal/backends/backendtest"
	"storaged/internal/record"
	"storaged/internal/testenv"
)

func TestMain(m *testing.M) { backendtest.Main(m, New()) }

// poolOn gives a pool on a device of its own.
func poolOn(kind string) func(t *testing.T) (backends.Backend, backends.Pool) {
	return func(t *testing.T) (backends.Backend, backends.Pool) {
		t.Helper()
		p := backends.Pool{
			Type: "fs", Target: filepath.Join(t.TempDir(), "pool"),
			Source: record.Source{Devices: []string{blank(t, kind)}, Format: kind},
		}
		t.Cleanup(func() {
			if err := New().Stop(context.Background(), p); err != nil {
				t.Errorf("stop: %v", err)
			}
		})
		return New(), p
	}
}

// diskBytes is how large a device for a file system is: xfs and btrfs want as much at
// least. Its file is sparse.
func diskBytes(kind string) int64 {
	switch kind {
	case "xfs":
		return 320 << 20
	case "btrfs":
		return 128 << 20
	}
	return 64 << 20
}

// blank is a device for a file system that carries nothing.
func blank(t testing.TB, kind string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, diskBytes(kind)); err != nil {
		t.Fatal(err)
	}
	device, _ := testenv.Attach(t, file)
	return device
}

// every has the whole contract tested on each file system. How volumes are handled does
// not differ, and the directories of dir pools are tested on all of them.
var every = flag.Bool("every", false, "test the whole contract on each file system")

func TestContract(t *testing.T) {
	for _, kind := range []string{"xfs", "ext4", "btrfs"} {
		t.Run(kind, func(t *testing.T) {
			s := backendtest.Suite{New: poolOn(kind), Ready: emptied(t, kind)}
			if kind != "xfs" && !*every {
				backendtest.RunPool(t, s)
				return
			}
			backendtest.Run(t, s)
			backendtest.RunTree(t, s)
		})
	}
}

// emptied gives pools again that no test has any more, and removes all from them that the
// one before has put there: to make a file system each time would take minutes.
func emptied(outer *testing.T, kind string) func(t *testing.T) (backends.Backend, backends.Pool) {
	var free []backends.Pool
	return func(t *testing.T) (backends.Backend, backends.Pool) {
		if len(free) == 0 {
			_, p := poolOn(kind)(outer)
			free = append(free, p)
		}
		p := free[0]
		free = free[1:]
		t.Cleanup(func() {
			clear(t, p)
			free = append(free, p)
		})
		return New(), p
	}
}

// started builds a pool, unless it is, and starts it.
func started(t *testing.T, p backends.Pool) {
	t.Helper()
	if err := New().(Backend).Build(context.Background(), p, false); err != nil && !errors.Is(err, backends.ErrExists) {
		t.Fatal(err)
	}
	if err := New().Start(context.Background(), p); err != nil {
		t.Fatal(err)
	}
}

// clear removes all that is in a pool.
func clear(t *testing.T, p backends.Pool) {
	t.Helper()
	started(t, p)
	entries, err := os.ReadDir(p.Target)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(p.Target, e.Name())))
	}
	if err != nil {
		t.Error(err)
	}
}
