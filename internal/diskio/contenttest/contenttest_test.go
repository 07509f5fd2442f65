package contenttest

import (
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
