package diskio

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"storaged/internal/testenv"
)

// minimal is how much a file must have allocated for a content: the blocks that
// are not zeros.
func minimal(content []byte, block int) (n int64) {
	for len(content) > 0 {
		part := content[:min(block, len(content))]
		if bytes.ContainsFunc(part, func(r rune) bool { return r != 0 }) {
			n += int64(block)
		}
		content = content[len(part):]
	}
	return n
}

// written is how much of a file has blocks: the data, and what the file system
// says is allocated, but for what it keeps for itself.
func written(t *rapid.T, f *os.File, size int64) (n int64) {
	err := walkAllocated(context.Background(), file{f}, size, func(x Extent) error {
		if x.Kind == Data {
			n += x.Len
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// zeroed overwrites ranges of a file with zeros.
func zeroed(t *rapid.T, f *os.File, content []byte) {
	for range rapid.IntRange(0, 4).Draw(t, "zeroed") {
		if len(content) == 0 {
			return
		}
		off := rapid.IntRange(0, len(content)-1).Draw(t, "offset")
		part := content[off : off+rapid.IntRange(1, len(content)-off).Draw(t, "length")]
		clear(part)
		if _, err := f.WriteAt(part, int64(off)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTrimOfAnyLayout: the content stays, and nothing else has blocks.
func TestTrimOfAnyLayout(t *testing.T) {
	onEachFS(t, func(t *testing.T, dir string) {
		rapid.Check(t, func(t *rapid.T) {
			f := scratch(t, dir)
			want := layout(t, f)
			zeroed(t, f, want)
			if rapid.Bool().Draw(t, "beyond the end") {
				if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, int64(len(want)), 1<<20); err != nil {
					t.Fatal(err)
				}
			}
			if err := f.Sync(); err != nil {
				t.Fatal(err)
			}
			before, _ := allocated(f)
			p := NewPacer()
			did, err := Trim(context.Background(), p, file{f}, Checkpoints{})
			if err != nil {
				t.Fatal(err)
			}
			after, _ := allocated(f)
			if got, err := os.ReadFile(f.Name()); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("the content is another: %v", err)
			}
			least := minimal(want, int(granularity(file{f})))
			if n := written(t, f, int64(len(want))); roundUp(n, granularity(file{f})) > least {
				t.Fatalf("%d bytes have blocks, for %d of data", n, least)
			}
			if after > least+1<<16 { // extent trees, what is behind the end
				t.Fatalf("%d bytes are allocated, for %d of data", after, least)
			}
			if did.Bytes != max(0, before-after) {
				t.Fatalf("%d bytes are said to be given back, of %d before and %d after", did.Bytes, before, after)
			}
			if c := p.Counts(); c.Done != int64(len(want)) || c.Total != c.Done || c.Durable != c.Done {
				t.Fatalf("counted %+v, of %d bytes", c, len(want))
			}
		})
	})
}

func TestTrimOfNothingChangesNothing(t *testing.T) {
	onEachFS(t, func(t *testing.T, dir string) {
		f := create(t, dir, "v")
		must(t, f.Truncate(8<<20))
		writeRandom(t, f, 1<<20, 2<<20)
		must(t, f.Sync())
		before, err := statOf(f)
		must(t, err)
		did, err := Trim(context.Background(), NewPacer(), file{f}, Checkpoints{})
		after, serr := statOf(f)
		if err != nil || serr != nil || did.Method != MethodNone || did.Bytes != 0 || before.Ctim != after.Ctim {
			t.Errorf("%+v, changed at %v, before at %v: %v, %v", did, after.Ctim, before.Ctim, err, serr)
		}
	})
}

// A part that is moved under a limit may be smaller than a block.
func TestSlowTrimGivesWholeBlocksBack(t *testing.T) {
	onEachFS(t, func(t *testing.T, dir string) {
		f := create(t, dir, "v")
		_, err := f.Write(make([]byte, 20000))
		must(t, err)
		must(t, f.Sync())
		p := NewPacer()
		p.SetLimit(30000)
		if _, err := Trim(context.Background(), p, file{f}, Checkpoints{}); err != nil || occupied(t, f) != 0 {
			t.Errorf("%d bytes are allocated: %v", occupied(t, f), err)
		}
	})
}

func TestPreallocated(t *testing.T) {
	for _, kind := range []string{"ext4", "xfs", "btrfs"} {
		t.Run(kind, func(t *testing.T) {
			f := create(t, testenv.Mount(t, kind), "v")
			must(t, f.Truncate(16<<20))
			writeRandom(t, f, 0, 1<<20)
			must(t, f.Sync())
			if n, err := Preallocated(context.Background(), file{f}); n != 0 || err != nil {
				t.Errorf("%d bytes of a sparse file are reserved: %v", n, err)
			}
			must(t, fallocate(f, 0, 0, 8<<20))
			if n, err := Preallocated(context.Background(), file{f}); n != 7<<20 || err != nil {
				t.Errorf("%d bytes are reserved, not 7 MiB: %v", n, err)
			}
		})
	}
}

// What is allocated in large units, because somebody asked for that, is not
// reserved.
func TestExtentUnitsAreNotPreallocated(t *testing.T) {
	f := create(t, testenv.Mount(t, "xfs"), "v")
	run(t, "xfs_io", "-c", "extsize 1m", f.Name())
	must(t, f.Truncate(16<<20))
	for off := int64(0); off < 16<<20; off += 3 << 20 {
		writeRandom(t, f, off, 4096)
	}
	must(t, f.Sync())
	if n, err := Preallocated(context.Background(), file{f}); n != 0 || err != nil {
		t.Errorf("%d bytes are reserved: %v", n, err)
	}
	if _, err := Trim(context.Background(), NewPacer(), file{f}, Checkpoints{}); err != nil || occupied(t, f) > 64<<10 {
		t.Errorf("%d bytes are allocated: %v", occupied(t, f), err)
	}
}

func TestTrimOfADeviceWithoutHarm(t *testing.T) {
	testenv.Loop(t)
	backing := create(t, t.TempDir(), "backing")
	writeRandom(t, backing, 0, 3<<20)
	_, err := backing.WriteAt(make([]byte, 5<<20), 3<<20)
	must(t, err)
	must(t, backing.Sync())
	want := digest(t, backing)
	dev, err := os.OpenFile(loopDevice(t, backing.Name()), os.O_RDWR, 0)
	must(t, err)
	defer dev.Close()
	did, err := Trim(context.Background(), NewPacer(), file{dev}, Checkpoints{})
	if err != nil || did.Method != MethodDiscard || did.Bytes != 5<<20 {
		t.Errorf("%+v: %v", did, err)
	}
	must(t, dev.Sync())
	if digest(t, backing) != want || occupied(t, backing) > 3<<20+64<<10 {
		t.Errorf("it has %d bytes allocated, or other content", occupied(t, backing))
	}
}

// A file system without holes refuses, whatever was asked.
func TestTrimWhereThereAreNoHoles(t *testing.T) {
	testenv.Kernel(t, "vfat")
	f := create(t, testenv.Mount(t, "vfat"), "v")
	_, err := f.Write(make([]byte, 1<<20))
	must(t, err)
	if _, err := Trim(context.Background(), NewPacer(), file{f}, Checkpoints{}); !errors.Is(err, ErrUnsupported) {
		t.Errorf("it says %v", err)
	}
}

func TestCanceledTrimIsWholeAndGoesOn(t *testing.T) {
	onEachFS(t, func(t *testing.T, dir string) {
		f := create(t, dir, "v")
		for off := int64(0); off < 24<<20; off += 2 << 20 {
			writeRandom(t, f, off, 1<<20)
			_, err := f.WriteAt(make([]byte, 1<<20), off+1<<20)
			must(t, err)
		}
		want := digest(t, f)
		ctx, cancel := context.WithCancelCause(context.Background())
		p := NewPacer()
		p.SetLimit(50 << 20)
		kept := int64(0)
		_, err := Trim(ctx, p, file{f}, Checkpoints{Every: 1, Save: func(done int64) {
			if kept = done; done >= 8<<20 {
				cancel(io.EOF)
			}
		}})
		if !errors.Is(err, io.EOF) || digest(t, f) != want || kept < 8<<20 {
			t.Fatalf("canceled at %d: %v, or the content is another", kept, err)
		}
		p = NewPacer()
		_, err = Trim(context.Background(), p, file{f}, Checkpoints{From: kept})
		if err != nil || digest(t, f) != want || occupied(t, f) > 12<<20+64<<10 {
			t.Errorf("%d bytes are allocated, or other content: %v", occupied(t, f), err)
		}
		if read := p.Counts().Read; read > 24<<20-kept {
			t.Errorf("%d bytes were read behind %d", read, kept)
		}
	})
}
