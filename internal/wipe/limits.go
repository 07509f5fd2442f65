package wipe

import (
	"context"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"storaged/internal/blockdev"
	"storaged/internal/diskio"
)

// Limit is old content that a wipe cannot reach, in a sentence.
type Limit struct {
	Text string
	// Certain says that the old content does stay readable somewhere; else it
	// may, which nobody on this side of the device can tell.
	Certain bool
}

// overwriteNotes say, of the file systems on which writing a block again does not
// reach the old one, why it does not, and of others that it may not.
var overwriteNotes = map[diskio.FileSystem]string{
	unix.BTRFS_SUPER_MAGIC:     "btrfs writes changed blocks elsewhere; the old ones keep their data until they are used again",
	diskio.ZFS:                 "ZFS writes changed blocks elsewhere; the old ones keep their data until they are used again",
	diskio.Bcachefs:            "bcachefs writes changed blocks elsewhere; the old ones keep their data until they are used again",
	unix.F2FS_SUPER_MAGIC:      "F2FS writes changed blocks elsewhere; the old ones keep their data until they are used again",
	unix.NILFS_SUPER_MAGIC:     "NILFS writes changed blocks elsewhere; the old ones keep their data until they are used again",
	diskio.UBIFS:               "UBIFS writes changed blocks elsewhere; the old ones keep their data until they are used again",
	unix.JFFS2_SUPER_MAGIC:     "JFFS2 writes changed blocks elsewhere; the old ones keep their data until they are used again",
	unix.V9FS_MAGIC:            "the file is on a server (9P), which decides what is overwritten",
	unix.NFS_SUPER_MAGIC:       "the file is on a server (NFS), which decides what is overwritten",
	unix.CIFS_SUPER_MAGIC:      "the file is on a server (CIFS), which decides what is overwritten",
	unix.SMB2_SUPER_MAGIC:      "the file is on a server (SMB), which decides what is overwritten",
	unix.CEPH_SUPER_MAGIC:      "the file is on a server (Ceph), which decides what is overwritten",
	unix.FUSE_SUPER_MAGIC:      "the file system is a program (FUSE), which decides what is overwritten",
	unix.OVERLAYFS_SUPER_MAGIC: "the file is on an overlay; a lower layer may keep its data",
}

// Limits says, before anything is written, what Run could not reach: the Limits
// that its stats would have.
func Limits(ctx context.Context, c diskio.Content, spec Spec) ([]Limit, error) {
	w, err := newWiping(ctx, nil, c, spec)
	return w.stats.Limits, err
}

// limits finds what the wipe cannot reach, and on which device.
func (w *wiping) limits(ctx context.Context) error {
	if w.algorithm.trim {
		w.limit("a trim overwrites nothing: it gives the blocks back, and what was in them may stay readable on the device", false)
	}
	w.stats.Limits = append(w.stats.Limits, w.spec.Beside...)
	stored, layout := w.c, w.layout
	if w.spec.File != nil {
		var err error
		if stored, layout, err = w.file(ctx); err != nil {
			return err
		}
	}
	f := diskio.FileOf(stored)
	if f == nil {
		w.limit("the content is served by another program, which decides what is overwritten", false)
		return nil
	}
	dev, err := blockdev.Of(f)
	if err != nil {
		return &diskio.IOError{Op: "stat", Offset: -1, Err: err}
	}
	below := lookBelow(blockdev.System, dev)
	w.stats.Device = below.name
	if layout.Regular {
		if err := w.fileLimits(f, dev, layout); err != nil {
			return err
		}
	}
	w.stats.Limits = append(w.stats.Limits, below.limits...)
	if !layout.Exact && w.stats.Holes > 0 {
		w.limit("this file system cannot tell ranges that are allocated but unwritten from holes; neither was overwritten", false)
	}
	return nil
}

// file is where the content of an image is stored, and how.
func (w *wiping) file(ctx context.Context) (diskio.Content, diskio.Layout, error) {
	layout, err := diskio.LayoutOf(ctx, w.spec.File)
	return w.spec.File, layout, err
}

func (w *wiping) limit(text string, certain bool) {
	w.stats.Limits = append(w.stats.Limits, Limit{text, certain})
}

// fileLimits are those of the file system.
func (w *wiping) fileLimits(f *os.File, dev string, layout diskio.Layout) error {
	kind, err := diskio.FileSystemOf(f)
	if err != nil {
		return err
	}
	note := overwriteNotes[kind]
	switch {
	case kind == unix.OVERLAYFS_SUPER_MAGIC && isCopiedUp(f):
		w.limit("the file is on an overlay and comes from a lower layer, which keeps its data", true)
		note = ""
	case kind == unix.EXT4_SUPER_MAGIC && journalsData(f, blockdev.System, dev):
		w.limit("what was written to the file went through the journal of the file system first (data=journal), which keeps it until it is used again", true)
	case kind == unix.TMPFS_MAGIC && hasSwap():
		w.limit("the file is in memory, and what of it was swapped out may stay on the swap device", false)
	}
	if note != "" && !w.algorithm.trim && !inPlace(f, kind) {
		w.limit(note, kind.CopiesOnWrite())
	}
	if n := layout.Shared; n > 0 {
		w.limit(fmt.Sprintf("%d bytes are shared with other files or snapshots, which keep the old data", n), true)
	}
	if n := layout.Encoded; n > 0 && !w.algorithm.trim {
		w.limit(fmt.Sprintf("%d bytes are stored compressed or encrypted; what is written takes other blocks", n), true)
	}
	return nil
}

// inPlace reports whether btrfs overwrites what the file shares with nobody:
// the file has the attribute C (chattr(1)).
func inPlace(f *os.File, kind diskio.FileSystem) bool {
	return kind == unix.BTRFS_SUPER_MAGIC && diskio.Flags(f)&diskio.FlagNoCopyOnWrite != 0
}
