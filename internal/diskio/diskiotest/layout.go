package diskiotest

import (
	"bytes"
	"io"
	"os"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// Scratch is a new file for one run of a property.
func Scratch(t *rapid.T, dir string) *os.File {
	f, err := os.CreateTemp(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		f.Close()
		os.Remove(f.Name())
	})
	return f
}

// Layout makes a file of random data, holes, preallocated and punched ranges,
// at any offsets, and gives what it must read as.
func Layout(t *rapid.T, f *os.File) []byte {
	const most = 4 << 20
	size := rapid.IntRange(0, most).Draw(t, "size")
	content := make([]byte, size)
	check := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	check(f.Truncate(int64(size)))
	for range rapid.IntRange(0, 12).Draw(t, "steps") {
		if size == 0 {
			break
		}
		off := rapid.IntRange(0, size-1).Draw(t, "offset")
		n := rapid.IntRange(1, size-off).Draw(t, "length")
		part := content[off : off+n]
		switch rapid.SampledFrom([]string{"data", "data", "preallocate", "punch", "sync"}).Draw(t, "step") {
		case "data":
			_, err := io.ReadFull(RandomBytes(uint64(off)), part)
			check(err)
			_, err = f.WriteAt(part, int64(off))
			check(err)
		case "preallocate":
			check(unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, int64(off), int64(n)))
		case "punch":
			clear(part)
			check(unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, int64(off), int64(n)))
		case "sync":
			check(f.Sync())
		}
	}
	return content
}

// Same fails unless a file has the content that is wanted.
func Same(t *rapid.T, what string, f *os.File, want []byte) {
	got, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("%s: %d bytes differ from the %d expected", what, len(got), len(want))
	}
}
