// Package diskiotest has what tests of transfers between files need: files of
// many kinds, file systems for them, and an end in their middle.
package diskiotest

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"storaged/internal/testenv"
)

// MiB is a unit of sizes.
const MiB = 1 << 20

// Create makes a new file that is closed when the test ends.
func Create(t testing.TB, dir, name string) *os.File {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	Must(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

// CreateTemp makes a new file that is gone when the test ends.
func CreateTemp(t testing.TB, dir string) *os.File {
	t.Helper()
	f, err := os.CreateTemp(dir, "")
	Must(t, err)
	t.Cleanup(func() {
		f.Close()
		Must(t, os.Remove(f.Name()))
	})
	return f
}

// Must fails a test by an error.
func Must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// WriteRandom writes n random bytes at off.
func WriteRandom(t testing.TB, f *os.File, off, n int64) {
	t.Helper()
	_, err := io.CopyN(io.NewOffsetWriter(f, off), RandomBytes(uint64(off)), n)
	Must(t, err)
}

// RandomBytes are the same for the same seed.
func RandomBytes(seed uint64) io.Reader {
	var key [32]byte
	key[0], key[1], key[2] = byte(seed), byte(seed>>8), byte(seed>>16)
	return rand.NewChaCha8(key)
}

// SizeOf is the size of a file or block device.
func SizeOf(t testing.TB, f *os.File) int64 {
	t.Helper()
	n, err := f.Seek(0, io.SeekEnd)
	Must(t, err)
	return n
}

// Occupied is how many bytes of blocks a file has.
func Occupied(t testing.TB, f *os.File) int64 {
	t.Helper()
	var st unix.Stat_t
	Must(t, unix.Fstat(int(f.Fd()), &st))
	return st.Blocks * 512
}

// Unwritten is how many bytes of a file wait for write-back, or are in it.
func Unwritten(t testing.TB, f *os.File) int64 {
	t.Helper()
	s := CacheOf(t, f, 0, 0)
	return int64(s.Dirty+s.Writeback) * int64(os.Getpagesize())
}

// CacheOf is what the page cache has of a range; of all if n is 0.
func CacheOf(t testing.TB, f *os.File, off, n uint64) (s unix.Cachestat_t) {
	t.Helper()
	err := unix.Cachestat(uint(f.Fd()), &unix.CachestatRange{Off: off, Len: n}, &s, 0)
	testenv.Need(t, "cachestat(2), Linux 6.5", !errors.Is(err, unix.ENOSYS))
	Must(t, err)
	return s
}

// Canary is looked for on the raw device after a wipe.
var Canary = []byte("a canary that must not survive a wipe")

// WriteCanaries fills the first n bytes with canaries, durably.
func WriteCanaries(t testing.TB, f *os.File, n int) {
	t.Helper()
	_, err := f.WriteAt(bytes.Repeat(Canary, n/len(Canary)+1)[:n], 0)
	Must(t, err)
	Must(t, f.Sync())
}

// Canaries counts them in a file.
func Canaries(t testing.TB, path string) int {
	t.Helper()
	data, err := os.ReadFile(path)
	Must(t, err)
	return bytes.Count(data, Canary)
}

// ThinVolume is a file of 1 GiB, with some data, where there is room for 100 MiB.
func ThinVolume(t testing.TB, dir string) *os.File {
	t.Helper()
	f := Create(t, dir, "thin")
	Must(t, f.Truncate(1<<30))
	WriteRandom(t, f, 0, 4*MiB)
	return f
}

// HugeHole is a file of 200 TiB with a little data at both ends.
func HugeHole(t testing.TB, dir, name string) *os.File {
	t.Helper()
	f := Create(t, dir, name)
	Must(t, f.Truncate(200<<40))
	WriteRandom(t, f, 0, 100<<10)
	WriteRandom(t, f, 200<<40-100<<10, 100<<10)
	return f
}

// noCopyOnWrite is FS_NOCOW_FL of linux/fs.h, which package unix lacks.
const noCopyOnWrite = 0x00800000

// CreateNoCopyOnWrite makes a new file that btrfs overwrites in place.
func CreateNoCopyOnWrite(t testing.TB, dir, name string) *os.File {
	t.Helper()
	f := Create(t, dir, name)
	Must(t, unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, noCopyOnWrite))
	return f
}
