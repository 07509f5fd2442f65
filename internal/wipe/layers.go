package wipe

import (
	"bytes"
	"os"
	"path/filepath"

	"storaged/internal/blockdev"
	"storaged/internal/diskio"
)

// journalDataFlag is FS_JOURNAL_DATA_FL of linux/fs.h.
const journalDataFlag = 0x00004000

// isCopiedUp reports whether a file on an overlay has, or had, its content in a
// lower layer: whoever opens it for writing gets a copy in the upper one, and the
// kernel knows of which file, also after a rename or another mount. Before Linux
// 6.6 nobody can tell, and it is false.
func isCopiedUp(f *os.File) bool {
	_, upper, ok := blockdev.OverlayHandle(f)
	return ok && !upper
}

// journalsData reports whether ext4 on that device writes the file's data into
// its journal too: all files are so, or this one is (chattr +j). Without a
// journal no option says what becomes of data, and the attribute does nothing.
func journalsData(f *os.File, sysfs blockdev.Sysfs, dev string) bool {
	d, ok := sysfs.Device(dev)
	if !ok {
		return false
	}
	options, err := os.ReadFile(filepath.Join("/proc/fs/ext4", d.Kernel(), "options"))
	if err != nil || !bytes.Contains(options, []byte("\ndata=")) {
		return false
	}
	return diskio.Flags(f)&journalDataFlag != 0 || bytes.Contains(options, []byte("\ndata=journal\n"))
}

// hasSwap reports whether memory may be written to a device.
func hasSwap() bool {
	b, err := os.ReadFile("/proc/swaps")
	return err == nil && bytes.Count(b, []byte("\n")) > 1 // after the names of its columns
}
