package diskio

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The names that package os puts in are left out, and what somebody explains is not.
func TestErrorsKeepWhatExplainsThem(t *testing.T) {
	path := &fs.PathError{Op: "read", Path: "/some/file", Err: os.NewSyscallError("pread", unix.EIO)}
	if err := ioError("read", 7, path); err.Error() != "read at byte 7: input/output error" || !errors.Is(err, unix.EIO) {
		t.Error(err)
	}
	explained := fmt.Errorf("the program was ended by its limit (%w)", os.NewSyscallError("read", unix.ECONNRESET))
	medium := ioError("read", 7, os.NewSyscallError("pread", unix.ENODATA))
	if bad, ok := errors.AsType[*IOError](medium); !ok || !bad.Broken() || !strings.Contains(medium.Error(), "medium there (no data") {
		t.Error(medium)
	}
	if bad, ok := errors.AsType[*IOError](ioError("write", 7, unix.ENOSPC)); !ok || bad.Broken() {
		t.Error("no room is no broken device")
	}
	if err := ioError("read", 7, explained); !strings.Contains(err.Error(), "its limit") || !errors.Is(err, unix.ECONNRESET) {
		t.Error(err)
	}
}
