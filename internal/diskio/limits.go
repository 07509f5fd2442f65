package diskio

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// bcachefsMagic is BCACHEFS_STATFS_MAGIC, which package unix lacks.
const bcachefsMagic = 0xca451a4e

// zfsMagic is ZFS_SUPER_MAGIC of OpenZFS.
const zfsMagic = 0x2fc12fc1

// overwriteNotes are the file systems on which writing a block again does not
// reach the old one, or may not.
var overwriteNotes = map[int64]string{
	unix.BTRFS_SUPER_MAGIC:     "btrfs writes changed blocks elsewhere; the old ones keep their data until they are used again",
	zfsMagic:                   "ZFS writes changed blocks elsewhere; the old ones keep their data until they are used again",
	bcachefsMagic:              "bcachefs writes changed blocks elsewhere; the old ones keep their data until they are used again",
	unix.F2FS_SUPER_MAGIC:      "F2FS writes changed blocks elsewhere; the old ones keep their data until they are used again",
	unix.NFS_SUPER_MAGIC:       "the file is on a server (NFS), which decides what is overwritten",
	unix.CIFS_SUPER_MAGIC:      "the file is on a server (CIFS), which decides what is overwritten",
	unix.SMB2_SUPER_MAGIC:      "the file is on a server (SMB), which decides what is overwritten",
	unix.CEPH_SUPER_MAGIC:      "the file is on a server (Ceph), which decides what is overwritten",
	unix.FUSE_SUPER_MAGIC:      "the file system is a program (FUSE), which decides what is overwritten",
	unix.OVERLAYFS_SUPER_MAGIC: "the file is on an overlay; a lower layer may keep its data",
}

// WipeLimits says, before anything is written, what a Wipe of f could not
// reach: the Limits that its stats would have on that account.
func WipeLimits(ctx context.Context, f *os.File) ([]string, error) {
	size, err := fileSize(f)
	if err != nil {
		return nil, err
	}
	return wipeLimits(ctx, f, size)
}

// wipeLimits finds what an overwrite of f in place cannot reach.
func wipeLimits(ctx context.Context, f *os.File, size int64) ([]string, error) {
	fi, err := f.Stat()
	if err != nil {
		return nil, ioError("stat", nowhere, err)
	}
	if !fi.Mode().IsRegular() {
		return nil, nil
	}
	var limits []string
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &fs); err != nil {
		return nil, ioError("stat file system", nowhere, err)
	}
	if note, ok := overwriteNotes[int64(fs.Type)&0xffffffff]; ok {
		limits = append(limits, note)
	}
	shared, encoded, err := sharedBytes(ctx, f, size)
	if shared > 0 {
		limits = append(limits, fmt.Sprintf("%d bytes were shared with other files or snapshots, which keep the old data", shared))
	}
	if encoded > 0 {
		limits = append(limits, fmt.Sprintf("%d bytes were stored compressed or encrypted; what is written takes other blocks", encoded))
	}
	return limits, err
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
