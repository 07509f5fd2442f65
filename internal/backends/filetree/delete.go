package filetree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"storaged/internal/backends"
	"storaged/internal/blockdev"
	"storaged/internal/record"
)

// Delete removes the directory. It looks at everything first, so that a
// refusal leaves everything as it was.
func (t Tree) Delete(ctx context.Context, p backends.Pool, withVolumes bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d, err := t.openKnown(p)
	if errors.Is(err, backends.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.unlike(p.Others); err != nil {
		return err
	}
	parent, err := d.above()
	if err != nil {
		return fmt.Errorf("cannot delete pool directory %q: %w", p.Target, err)
	}
	defer parent.Close()
	if err := d.empty(ctx, p, withVolumes); err != nil {
		return err
	}
	return d.removeFrom(parent)
}

// Clear makes sure that nothing is in the directory but what its file system has there
// by itself, or with volumes removes them if there is nothing else.
func (t Tree) Clear(ctx context.Context, p backends.Pool, withVolumes bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d, err := t.openKnown(p)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.unlike(p.Others); err != nil {
		return err
	}
	if err := d.empty(ctx, p, withVolumes); err != nil {
		return err
	}
	return d.sync()
}

// unlike refuses a directory that is that of another pool in use, whatever
// path led to it: a link on the way and a bind mount have no name that would
// tell.
func (d *poolDir) unlike(others []backends.Identity) error {
	if len(others) == 0 {
		return nil
	}
	here, _, err := d.id()
	if err != nil {
		return err
	}
	for _, id := range others {
		if (Tree{}).Same(id, here.identity()) {
			return &backends.BusyError{Object: d.target, Holder: "another pool, whose directory it is"}
		}
	}
	return nil
}

// above opens the directory that holds the pool's by its own name: a link to
// it is not what Build made, and a mount point cannot be removed.
func (d *poolDir) above() (*os.File, error) {
	parent, err := os.OpenFile(filepath.Dir(d.target), os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	here, err := statx(int(parent.Fd()), filepath.Base(d.target), unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT)
	switch {
	case err != nil:
	case here.Mode&unix.S_IFMT == unix.S_IFLNK:
		err = errors.New("it is reached through a symbolic link; delete what the link leads to")
	case here.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0:
		err = record.Errorf(record.WrongState, "%s", mountPoint).
			WithHint("its volumes can be deleted (%s), and %s forgets it: what is mounted there is not its own", record.Do("volume.delete", "POOL/VOLUME"), record.Do("pool.undefine", "POOL"))
	}
	if err != nil {
		parent.Close()
		return nil, err
	}
	return parent, nil
}

// empty makes sure that nothing is in the directory, or with volumes removes
// them if there is nothing else.
func (d *poolDir) empty(ctx context.Context, p backends.Pool, withVolumes bool) error {
	if err := d.awaitDeleted(ctx); err != nil {
		return err
	}
	names, err := d.inhabitants(ctx, withVolumes)
	switch {
	case err != nil:
		return err
	case len(names) > 0 && !withVolumes:
		return fmt.Errorf("pool directory %q %w: it holds %s: %s", d.target, backends.ErrNotEmpty, record.Plural(len(names), "name"), record.List(names, maxNamed))
	}
	if err := p.Unlisted(names); err != nil {
		return err
	}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := d.remove(name); err != nil && !errors.Is(err, backends.ErrNotFound) {
			return err
		}
	}
	return nil
}

// maxNamed bounds how many entries an error names.
const maxNamed = 5

// inhabitants are the names of what is in the directory. Where they are to go, each is
// that of a volume that nobody uses.
func (d *poolDir) inhabitants(ctx context.Context, leave bool) (names []string, err error) {
	err = d.each(ctx, func(e entry) error {
		if d.inborn(e) {
			return nil
		}
		names = append(names, e.name)
		if leave {
			return d.removable(e)
		}
		return nil
	})
	return names, err
}

// foundDir is the directory that ext2, ext3 and ext4 have in their root for what a check
// finds without a name.
const foundDir = "lost+found"

// inborn reports whether an entry is one that the file system has by itself, with nothing
// in it.
func (d *poolDir) inborn(e entry) bool {
	if e.name != foundDir || e.kind != unix.DT_DIR {
		return false
	}
	if _, root, err := blockdev.MountAt(d.File); err != nil || !root {
		return false
	}
	in, err := d.openBeneath(e.name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return false
	}
	defer in.Close() // it is only read
	names, err := in.Readdirnames(1)
	return len(names) == 0 && errors.Is(err, io.EOF)
}

// removable fails unless an entry is a volume that nobody uses.
func (d *poolDir) removable(e entry) error {
	why, err := d.noVolume(e)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return d.refusal(e.name, err)
	}
	if err := checkStored(e.name); err != nil {
		why = err.Error()
	}
	if why != "" {
		return fmt.Errorf("pool directory %q %w: \"%s\" is no volume: %s", d.target, backends.ErrNotEmpty, record.Escape(e.name), why)
	}
	f, err := d.openLocked(e.name, backends.WriteExclusive)
	if err != nil {
		return err
	}
	return f.Close()
}

// noVolume says why an entry is no volume, "" if it may be one.
func (d *poolDir) noVolume(e entry) (why string, err error) {
	if e.kind == unix.DT_DIR {
		return directory, nil
	}
	st, err := d.stat(e.name)
	if errors.Is(err, unix.EXDEV) {
		return mountPoint, nil
	}
	if err != nil {
		return "", err
	}
	return danger(&st), nil
}

// removeFrom removes the empty directory durably.
func (d *poolDir) removeFrom(parent *os.File) error {
	err := retry(func() error {
		return unix.Unlinkat(int(parent.Fd()), filepath.Base(d.target), unix.AT_REMOVEDIR)
	})
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("pool directory %q %w: something was put there just now", d.target, backends.ErrNotEmpty)
	}
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("cannot delete pool directory %q: %w", d.target, err)
	}
	return syncParent(d.target)
}
