package device

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"storaged/internal/backends"
	"storaged/internal/blockdev"
	"storaged/internal/testenv"
)

// attached gives a device of 64 MiB that nobody uses.
func attached(t *testing.T, kind string) Node {
	t.Helper()
	testenv.Root(t)
	testenv.Loop(t)
	file := filepath.Join(t.TempDir(), "device")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, 64<<20); err != nil {
		t.Fatal(err)
	}
	if kind != "" {
		testenv.Formatted(t, file, kind)
	}
	path, detach := testenv.Attach(t, file)
	t.Cleanup(detach)
	dev, err := blockdev.OpenNode(path)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	return Node{Path: path, Number: dev.Number}
}

// Whoever has it open lets those in that the access says.
func TestWhoIsLetIn(t *testing.T) {
	n := attached(t, "")
	names := map[backends.Access]string{backends.ReadShared: "read", backends.WriteExclusive: "write", backends.Grow: "grow"}
	for has, first := range names {
		for wants, second := range names {
			f, err := n.Open(t.Context(), has)
			if err != nil {
				t.Fatalf("%s: %v", first, err)
			}
			g, err := n.Open(t.Context(), wants)
			together := has == backends.ReadShared && wants == backends.ReadShared
			if _, busy := errors.AsType[*backends.BusyError](err); together != (err == nil) || !together && !busy {
				t.Errorf("%s beside %s: %v", second, first, err)
			}
			if g != nil {
				g.Close()
			}
			f.Close()
		}
	}
}

// What is mounted is nobody's to read or to write.
func TestMountedDeviceIsNotOpened(t *testing.T) {
	n := attached(t, "ext4")
	_, unmount := testenv.MountedFrom(t, n.Path)
	for _, a := range []backends.Access{backends.ReadShared, backends.WriteExclusive, backends.Grow} {
		_, err := n.Open(t.Context(), a)
		if busy, ok := errors.AsType[*backends.BusyError](err); !ok || !strings.Contains(busy.Holder, "mounted") {
			t.Errorf("%v: %v", a, err)
		}
	}
	unmount()
	f, err := n.Open(t.Context(), backends.WriteExclusive)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
}

// Another device by the name is not opened, and none is missing.
func TestAnotherDeviceIsNotOpened(t *testing.T) {
	n := attached(t, "")
	other := attached(t, "")
	other.Path = n.Path
	for _, a := range []backends.Access{backends.ReadShared, backends.WriteExclusive} {
		if _, err := other.Open(t.Context(), a); !errors.Is(err, backends.ErrUnsafe) {
			t.Errorf("another: %v", err)
		}
		_, err := Node{Path: "/dev/no-such-device", Number: n.Number}.Open(t.Context(), a)
		if _, missing := errors.AsType[*backends.MissingError](err); !missing {
			t.Errorf("none: %v", err)
		}
	}
}

// It shows whether a device was written to.
func TestWritesAreSeen(t *testing.T) {
	n := attached(t, "")
	f, err := n.Open(t.Context(), backends.WriteExclusive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	written := func() string {
		t.Helper()
		w, err := Written(f)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	before := written()
	if _, err := f.ReadAt(make([]byte, 4096), 0); err != nil || written() != before {
		t.Errorf("reading changed something (%v)", err)
	}
	_, err = f.WriteAt(make([]byte, 4096), 0)
	if err := errors.Join(err, f.Sync()); err != nil || written() == before {
		t.Errorf("writing changed nothing (%v)", err)
	}
}

// What a device carries is destroyed only if that is meant.
func TestVacate(t *testing.T) {
	n := attached(t, "ext4")
	seen, err := Source(backends.Pool{}, n.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer seen.Close()
	_, err = Vacate(t.Context(), seen, false)
	if o, ok := errors.AsType[*backends.OccupiedError](err); !ok || o.Carries != "ext4" {
		t.Errorf("with a file system: %v", err)
	}
	for _, overwrite := range []bool{true, false} {
		dev, err := Vacate(t.Context(), seen, overwrite)
		if err != nil {
			t.Fatal(err)
		}
		if types, err := Types(t.Context(), dev.File); err != nil || len(types) > 0 {
			t.Errorf("it carries %s, %v", Named(types), err)
		}
		dev.Close()
	}
}
