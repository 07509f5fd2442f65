package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"storaged/internal/record"
	"storaged/internal/testenv"
	"storaged/internal/virtrpc/virtrpctest"
)

// Of libvirt's storage driver and ours one is at work.
func TestPlaceOfLibvirtsDriverIsForOne(t *testing.T) {
	dir := t.TempDir()
	for range 2 { // once more when it was given back
		first, err := claimDriver(dir)
		if err != nil {
			t.Fatal(err)
		}
		pid, err := os.ReadFile(filepath.Join(dir, driverLock))
		if err != nil || string(pid) == "" {
			t.Errorf("the file says %q, %v", pid, err)
		}
		if _, err := claimDriver(dir); record.CodeOf(err) != record.Busy || !strings.Contains(err.Error(), "pid "+string(pid)) {
			t.Errorf("the second gets %v", err)
		}
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
	}
	socket, _ := testenv.Libvirtd(t)
	virtrpctest.Open(t, socket) // it answers when its drivers are at work
	theirs := filepath.Join(filepath.Dir(filepath.Dir(socket)), "run-libvirt")
	if _, err := claimDriver(theirs); record.CodeOf(err) != record.Busy || !strings.Contains(err.Error(), "libvirt's storage driver is at work in pid ") {
		t.Errorf("beside libvirtd: %v", err)
	}
}
