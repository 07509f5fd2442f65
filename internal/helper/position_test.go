package helper

import (
	"os"
	"path/filepath"
	"testing"

	"storaged/internal/diskio"
	"storaged/internal/testenv"
)

// A device is known again, tells that it was written to, and is another when it was taken away
// in between. What is written to a draft meanwhile is the earlier helper's.
func TestDevicesInCheckpoints(t *testing.T) {
	testenv.Loop(t)
	file := filepath.Join(t.TempDir(), "disk")
	must(t, os.WriteFile(file, make([]byte, 1<<20), 0o600))
	attached := func() (diskio.Content, func()) {
		path, detach := testenv.Attach(t, file)
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		must(t, err)
		return diskio.FileContent(f), func() { f.Close(); detach() }
	}
	c, detach := attached()
	was, err := positionOf(c)
	must(t, err)
	if was == nil || was.Device == "" {
		t.Fatalf("the position is %+v", was)
	}
	now, err := positionOf(c)
	must(t, err)
	if why := was.Unchanged(now); why != "" {
		t.Errorf("unchanged: %s", why)
	}
	_, err = c.WriteAt(make([]byte, 4096), 0)
	must(t, err)
	must(t, c.Flush())
	now, err = positionOf(c)
	must(t, err)
	if why := was.Unchanged(now); why != "it was changed meanwhile" {
		t.Errorf("written to: %q", why)
	}
	e := &earlier{At: Position{Target: was}}
	if why := e.FitsDraft(c); why != "" {
		t.Errorf("a draft: %s", why)
	}
	if why := e.Fits(c); why == "" {
		t.Error("a volume that is a device is gone on with")
	}
	detach()
	c, detach = attached()
	defer detach()
	if why := e.FitsDraft(c); why == "" {
		t.Error("another device is gone on with")
	}
}
