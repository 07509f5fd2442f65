package device

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"storaged/internal/backends"
	"storaged/internal/blockdev"
	"storaged/internal/partition"
	"storaged/internal/testenv"
)

// attached gives a device of 64 MiB that nobody uses.
func attached(t *testing.T, kind string) Node {
	t.Helper()
	testenv.Root(t)
	testenv.Loop(t)
	dir := t.TempDir() // in memory, where what is made durable is so at once
	testenv.MountImage(t, "", dir)
	t.Cleanup(func() { testenv.Unmount(t, dir) })
	file := filepath.Join(dir, "device")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, 64<<20); err != nil {
		t.Fatal(err)
	}
	if kind != "" {
		testenv.Formatted(t, file, kind)
	}
	path, _ := testenv.Attach(t, file)
	n := nodeOf(t, path)
	undivided := func() { // a loop device keeps partitions that it was given with an earlier file
		dev, err := blockdev.OpenNode(path)
		if err != nil {
			t.Error(err)
			return
		}
		defer dev.Close()
		if err := vanish(dev); err != nil {
			t.Error(err)
		}
	}
	undivided()
	t.Cleanup(undivided)
	return n
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

// What a device carries is destroyed only if that is meant, and nothing of it is left then,
// wherever on the device it is.
func TestVacate(t *testing.T) {
	end := func(n Node, size int64, before int64, text string) { put(t, n, size-before, text) }
	const size = 64 << 20
	for what, carry := range map[string]func(n Node){
		"ext4": func(n Node) { testenv.Formatted(t, n.Path, "ext4") },
		"gpt":  func(n Node) { divide(t, n, "gpt") },
		"dos":  func(n Node) { divide(t, n, "dos") },
		"gpt at the end alone": func(n Node) {
			divide(t, n, "gpt")
			put(t, n, 0, string(make([]byte, 4096)))
		},
		"ext4 beside gpt": func(n Node) {
			testenv.Formatted(t, n.Path, "ext4")
			divide(t, n, "gpt", "--wipe", "never")
		},
		"LVM2_member beside gpt": func(n Node) {
			divide(t, n, "gpt")
			put(t, n, 3*512, "LABELONE\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x20\x00\x00\x00LVM2 001")
		},
		"an array's at the end": func(n Node) { end(n, size, 64<<10, "\xfc\x4e\x2b\xa9\x00\x00\x00\x00\x5a\x00\x00\x00") }, // mdadm's format 0.90
		"an array of a board":   func(n Node) { end(n, size, 1024, "Intel Raid ISM Cfg Sig. 1.0.00") },
		"ext4 in a lost partition": func(n Node) {
			divide(t, n, "dos")
			testenv.Formatted(t, n.Path+"p1", "ext4")
			put(t, n, 0, string(make([]byte, 512)))
		},
		"a damaged table": func(n Node) { divide(t, n, "gpt"); put(t, n, 512+60, "x"); end(n, size, 512-60, "x") },
	} {
		t.Run(what, func(t *testing.T) {
			n := attached(t, "")
			carry(n)
			seen, err := Source(backends.Pool{}, n.Path)
			if err != nil {
				t.Fatal(err)
			}
			defer seen.Close()
			if _, err := Vacate(t.Context(), seen, false); !errors.Is(err, backends.ErrExists) && what != "a damaged table" {
				t.Errorf("without being asked: %v", err)
			}
			dev, err := Vacate(t.Context(), seen, true)
			if err != nil {
				t.Fatal(err)
			}
			defer dev.Close()
			if out, err := exec.Command(testenv.Tool(t, "wipefs"), "--noheadings", n.Path).CombinedOutput(); err != nil || len(out) > 0 {
				t.Errorf("it still carries %s, %v", out, err)
			}
			if out, err := exec.Command(testenv.Tool(t, "blkid"), "-p", n.Path).CombinedOutput(); len(out) > 0 {
				t.Errorf("blkid finds %s, %v", out, err)
			}
			if _, err := partition.Read(dev.File, dev.Size, 512); !errors.Is(err, partition.ErrNone) || len(parts(dev)) > 0 {
				t.Errorf("it still has a table: %v", err)
			}
		})
	}
}

// divide makes a partition table, of whose partition the kernel knows.
func divide(t *testing.T, n Node, label string, options ...string) {
	t.Helper()
	c := exec.Command(testenv.Tool(t, "sfdisk"), append(options, "--quiet", "--no-reread", n.Path)...)
	c.Stdin = strings.NewReader("label: " + label + "\n,10M\n")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("sfdisk: %v\n%s", err, out)
	}
	if out, err := exec.Command(testenv.Tool(t, "partx"), "--add", n.Path).CombinedOutput(); err != nil {
		t.Fatalf("partx: %v\n%s", err, out)
	}
}

func put(t *testing.T, n Node, at int64, text string) {
	t.Helper()
	f, err := os.OpenFile(n.Path, os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteAt([]byte(text), at)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}
