package contenttest

import (
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"storaged/internal/diskio"
	"storaged/internal/diskio/diskiotest"
)

// TestMain checks that no transfer leaves a goroutine behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestFilesAreContents(t *testing.T) {
	diskiotest.OnEachFS(t, func(t *testing.T, dir string) {
		Run(t, func(t testing.TB, size int64) diskio.Content {
			f := diskiotest.CreateTemp(t, dir)
			diskiotest.Must(t, f.Truncate(size))
			return diskio.FileContent(f)
		})
	})
}

func TestWhatIsNoFileIsAContent(t *testing.T) {
	Run(t, func(_ testing.TB, size int64) diskio.Content { return NewMemory(size) })
}

// TestCopyWritesCompleteUnits copies what begins and ends anywhere.
func TestCopyWritesCompleteUnits(t *testing.T) {
	const size = 6*mib + 100
	src, dst := diskiotest.CreateTemp(t, t.TempDir()), NewMemory(size)
	diskiotest.Must(t, src.Truncate(size))
	for _, at := range []int64{4 << 10, 60 << 10, 200 << 10, mib - 4<<10, 3*mib + 8<<10, size - 50} {
		diskiotest.WriteRandom(t, src, at, min(12<<10, size-at))
	}
	var writes atomic.Int64
	dst.Fault = func(call string, off, n int64) error {
		if call == "WriteAt" {
			writes.Add(1)
			if end := off + n; off%cluster > 0 || end%cluster > 0 && end != size {
				t.Errorf("%d bytes are written at %d", n, off)
			}
		}
		return nil
	}
	p := diskio.NewPacer()
	stats, err := diskio.Copy(t.Context(), p, diskio.CopySpec{Dst: dst, Src: diskio.FileContent(src), Clean: true})
	diskiotest.Must(t, err)
	r := rig{T: t}
	r.complete(p)
	r.reads(dst, r.bytes(diskio.FileContent(src)))
	if want := int64(6*cluster + 100); stats.Data != want || stats.Holes != size-want || writes.Load() != 6 {
		t.Errorf("%d writes, %+v, not %d bytes of data", writes.Load(), stats, want)
	}
}
