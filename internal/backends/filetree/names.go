package filetree

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"storaged/internal/backends"
	"storaged/internal/record"

	"golang.org/x/sys/unix"
)

// CheckName has the common rule: whatever passes is a name of a file. Those that a client
// of NFS gives to files in use are nobody's.
func (Tree) CheckName(name string) error {
	if deletedInUse(name) {
		return fmt.Errorf("bad name %q: it is that of a file which was deleted while a client of NFS has it open", name)
	}
	return record.CheckName(name)
}

// deletedInUse reports whether a name is one that clients of NFS give to files that are
// deleted while somebody there has them open (Linux fs/nfs/unlink.c: the inode and a
// number). They remove them when those have closed them.
func deletedInUse(name string) bool {
	digits, ok := strings.CutPrefix(name, ".nfs")
	return ok && len(digits) == 24 && strings.Trim(digits, "0123456789abcdef") == ""
}

// keepsDeleted reports whether the directory is one where that may happen.
func (d *poolDir) keepsDeleted() bool {
	var fs unix.Statfs_t
	err := retry(func() error { return unix.Fstatfs(d.fd(), &fs) })
	return err == nil && (fs.Type == unix.NFS_SUPER_MAGIC || fs.Type == unix.FUSE_SUPER_MAGIC)
}

// How long a client of NFS may take to remove a file that was deleted in use, after it was
// closed: it asks the server when whoever closed it has gone on. And how often it is looked.
const (
	removalTime  = 5 * time.Second
	removalCheck = 50 * time.Millisecond
)

// awaitDeleted waits for files that were deleted and are about to go. One that somebody
// has open still stays.
func (d *poolDir) awaitDeleted(ctx context.Context) error {
	if !d.keepsDeleted() {
		return nil
	}
	tick := time.NewTicker(removalCheck)
	defer tick.Stop()
	for since := time.Now(); ; {
		left := false
		err := d.each(ctx, func(e entry) error {
			left = left || deletedInUse(e.name)
			return nil
		})
		if err != nil || !left || time.Since(since) >= removalTime {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// checkStored is the rule for names of files that hold volumes or snapshots.
func checkStored(name string) error {
	if _, _, ok := record.ParseSnapshot(name); ok {
		return nil
	}
	return (Tree{}).CheckName(name)
}

// Locate gives the file of that name in the directory.
func (Tree) Locate(p backends.Pool, name string) backends.Location {
	return fileAt(filepath.Join(p.Target, name))
}

// LocateDraft gives the file by its temporary name.
func (Tree) LocateDraft(p backends.Pool, job string) string {
	return filepath.Join(p.Target, record.DraftName(job))
}

// Parse takes the directory that a file lies in for the pool's.
func (Tree) Parse(path string) (target, name string) {
	return filepath.Dir(path), filepath.Base(path) // before "." and ".." are resolved, so that they are refused as names
}

func fileAt(path string) backends.Location {
	return backends.Location{Path: path, Key: path, Type: "file"}
}
