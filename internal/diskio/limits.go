package diskio

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"storaged/internal/blockdev"
)

// Limit is old content that a wipe cannot reach, in a sentence.
type Limit struct {
	Text string
	// Certain says that the old content does stay readable somewhere; else it
	// may, which nobody on this side of the device can tell.
	Certain bool
}

// nocowFlag is FS_NOCOW_FL of linux/fs.h, which package unix lacks.
const nocowFlag = 0x00800000

// bcachefsMagic is BCACHEFS_STATFS_MAGIC, which package unix lacks.
const bcachefsMagic = 0xca451a4e

// zfsMagic is ZFS_SUPER_MAGIC of OpenZFS.
const zfsMagic = 0x2fc12fc1

// ubifsMagic is UBIFS_SUPER_MAGIC, which package unix lacks.
const ubifsMagic = 0x24051905

// copyOnWrite are the file systems on which writing a block again does not reach
// the old one.
var copyOnWrite = map[int64]bool{unix.BTRFS_SUPER_MAGIC: true, zfsMagic: true, bcachefsMagic: true, unix.F2FS_SUPER_MAGIC: true,
	unix.NILFS_SUPER_MAGIC: true, ubifsMagic: true, unix.JFFS2_SUPER_MAGIC: true}

// overwriteNotes say so, and of others that it may not.
var overwriteNotes = map[int64]string{
	unix.BTRFS_SUPER_MAGIC:     "btrfs writes changed blocks elsewhere; the old ones keep their data until they are used again",
	zfsMagic:                   "ZFS writes changed blocks elsewhere; the old ones keep their data until they are used again",
	bcachefsMagic:              "bcachefs writes changed blocks elsewhere; the old ones keep their data until they are used again",
	unix.F2FS_SUPER_MAGIC:      "F2FS writes changed blocks elsewhere; the old ones keep their data until they are used again",
	unix.NILFS_SUPER_MAGIC:     "NILFS writes changed blocks elsewhere; the old ones keep their data until they are used again",
	ubifsMagic:                 "UBIFS writes changed blocks elsewhere; the old ones keep their data until they are used again",
	unix.JFFS2_SUPER_MAGIC:     "JFFS2 writes changed blocks elsewhere; the old ones keep their data until they are used again",
	unix.V9FS_MAGIC:            "the file is on a server (9P), which decides what is overwritten",
	unix.NFS_SUPER_MAGIC:       "the file is on a server (NFS), which decides what is overwritten",
	unix.CIFS_SUPER_MAGIC:      "the file is on a server (CIFS), which decides what is overwritten",
	unix.SMB2_SUPER_MAGIC:      "the file is on a server (SMB), which decides what is overwritten",
	unix.CEPH_SUPER_MAGIC:      "the file is on a server (Ceph), which decides what is overwritten",
	unix.FUSE_SUPER_MAGIC:      "the file system is a program (FUSE), which decides what is overwritten",
	unix.OVERLAYFS_SUPER_MAGIC: "the file is on an overlay; a lower layer may keep its data",
}

// WipeLimits says, before anything is written, what a Wipe of f could not
// reach: the Limits that its stats would have.
func WipeLimits(ctx context.Context, f *os.File, spec WipeSpec) ([]Limit, error) {
	w, err := newWiping(nil, f, spec)
	if err != nil {
		return nil, err
	}
	err = w.limits(ctx)
	return w.stats.Limits, err
}

// limits finds what the wipe cannot reach, and on which device.
func (w *wiping) limits(ctx context.Context) error {
	dev, err := blockdev.Of(w.f)
	if err != nil {
		return ioError("stat", nowhere, err)
	}
	below := lookBelow(blockdev.System, dev)
	w.stats.Device = below.name
	if w.algorithm.trim {
		w.limit("a trim overwrites nothing: it gives the blocks back, and what was in them may stay readable on the device", false)
	}
	if w.file {
		if err := w.fileLimits(ctx, dev); err != nil {
			return err
		}
	}
	w.stats.Limits = append(w.stats.Limits, below.limits...)
	return nil
}

func (w *wiping) limit(text string, certain bool) {
	w.stats.Limits = append(w.stats.Limits, Limit{text, certain})
}

// fileLimits are those of the file system.
func (w *wiping) fileLimits(ctx context.Context, dev string) error {
	magic, err := magicOf(w.f)
	if err != nil {
		return err
	}
	switch {
	case magic == unix.OVERLAYFS_SUPER_MAGIC && isCopiedUp(w.f):
		w.limit("the file is on an overlay and comes from a lower layer, which keeps its data", true)
		magic = 0
	case magic == unix.EXT4_SUPER_MAGIC && journalsData(w.f, blockdev.System, dev):
		w.limit("what was written to the file went through the journal of the file system first (data=journal), which keeps it until it is used again", true)
	case magic == unix.TMPFS_MAGIC && hasSwap():
		w.limit("the file is in memory, and what of it was swapped out may stay on the swap device", false)
	}
	if note, ok := overwriteNotes[magic]; ok && !w.algorithm.trim && !inPlace(w.f, magic) {
		w.limit(note, copyOnWrite[magic])
	}
	shared, encoded, err := sharedBytes(ctx, w.f, w.size)
	if shared > 0 {
		w.limit(fmt.Sprintf("%d bytes are shared with other files or snapshots, which keep the old data", shared), true)
	}
	if encoded > 0 && !w.algorithm.trim {
		w.limit(fmt.Sprintf("%d bytes are stored compressed or encrypted; what is written takes other blocks", encoded), true)
	}
	return err
}

// magicOf tells the type of the file system, by statfs(2).
func magicOf(f *os.File) (int64, error) {
	var fs unix.Statfs_t
	err := retry(func() error { return unix.Fstatfs(int(f.Fd()), &fs) })
	return int64(fs.Type) & 0xffffffff, ioError("stat file system", nowhere, err)
}

// inPlace reports whether btrfs overwrites what the file shares with nobody:
// the file has the attribute C (chattr(1)).
func inPlace(f *os.File, magic int64) bool {
	return magic == unix.BTRFS_SUPER_MAGIC && flagsOf(f)&nocowFlag != 0
}

// flagsOf are the flags of ioctl_iflags(2), none where there are no such.
func flagsOf(f *os.File) uint32 {
	flags, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil {
		return 0
	}
	return flags
}

// sharedBytes counts what the file shares with others, and what is not stored
// as it is read. Without FIEMAP nothing is known, and nothing counted.
func sharedBytes(ctx context.Context, f *os.File, size int64) (shared, encoded int64, err error) {
	err = walkBlocks(ctx, f, func(x fiemapExtent) error {
		n := min(int64(x.length), max(size-int64(x.logical), 0))
		if x.flags&fiemapShared != 0 {
			shared += n
		}
		if x.flags&fiemapEncoded != 0 {
			encoded += n
		}
		return nil
	})
	if errors.Is(err, ErrUnsupported) {
		return 0, 0, nil
	}
	return shared, encoded, err
}
