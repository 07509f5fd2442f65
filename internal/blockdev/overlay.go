package blockdev

import (
	"os"

	"golang.org/x/sys/unix"
)

// Of a file handle on an overlay (fs/overlayfs/overlayfs.h): its type, and by
// place in it the mark and the flag that tells the upper layer.
const (
	atHandleFID    = 0x200 // AT_HANDLE_FID of linux/fcntl.h
	overlayHandle  = 0xf8
	overlayMark    = 0xfb
	overlayMarkAt  = 4
	overlayFlagsAt = 6
	overlayUpper   = 0x04
)

// OverlayHandle is by what an overlay tells a file or directory from all others, of whatever
// layers: it stays the same when a copy is made in the upper layer, which has another time of
// birth, and when it is looked up anew or the overlay mounted anew, which may give a directory
// another inode. upper says that it was made there, and is no copy of what is in a lower layer.
// ok is false on other file systems, and before Linux 6.6.
func OverlayHandle(f *os.File) (handle []byte, upper, ok bool) {
	h, _, err := unix.NameToHandleAt(int(f.Fd()), "", unix.AT_EMPTY_PATH|atHandleFID)
	if err != nil || h.Type() != overlayHandle {
		return nil, false, false
	}
	b := h.Bytes()
	if len(b) <= overlayFlagsAt || b[overlayMarkAt] != overlayMark {
		return nil, false, false
	}
	return b, b[overlayFlagsAt]&overlayUpper != 0, true
}
