package filetree

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"storaged/internal/backends"
	"storaged/internal/record"
)

const (
	// poolMode lets a virtual machine's user reach a volume whose name it was
	// given, and nobody else list them.
	poolMode = 0o711
	// parentMode is what mkdir -p gives.
	parentMode = 0o755
)

// Build makes the directory and what is missing on the way to it. One that is
// there already is taken as it is, but for the rights that are asked for, as in libvirt,
// so that overwrite has nothing to add.
func (Tree) Build(ctx context.Context, p backends.Pool, _ bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := record.CheckPath(p.Target); err != nil {
		return err
	}
	at, missing, err := deepest(p.Target)
	if err == nil {
		if err := stores(int(at.Fd()), p.Target); err != nil {
			at.Close()
			return err
		}
	}
	for i, name := range missing {
		if err != nil {
			break
		}
		mode := os.FileMode(parentMode)
		if i == len(missing)-1 {
			mode = poolMode
		}
		at, err = makeDir(at, name, mode)
	}
	if err != nil {
		return fmt.Errorf("cannot build pool directory %q: %w", p.Target, err)
	}
	err = p.Rights.GiveFile(at)
	if err == nil {
		err = at.Sync()
	}
	at.Close()
	return errors.Join(err, syncParent(p.Target))
}

// deepest opens the deepest directory on the way to target that exists, and
// gives the names that are missing below it.
func deepest(target string) (at *os.File, missing []string, err error) {
	for path := target; ; path = filepath.Dir(path) {
		at, err = os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY, 0)
		if errors.Is(err, unix.ENOTDIR) {
			return nil, nil, fmt.Errorf("%q is not a directory, or below something that is none", path)
		}
		if !errors.Is(err, unix.ENOENT) {
			return at, missing, err
		}
		missing = append([]string{filepath.Base(path)}, missing...)
	}
}

// makeDir makes one directory durably below at, which it closes, and opens it.
// One that somebody else has just made is as good.
func makeDir(at *os.File, name string, mode os.FileMode) (*os.File, error) {
	defer at.Close()
	fd := int(at.Fd())
	err := unix.Mkdirat(fd, name, uint32(mode))
	made := err == nil
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, err
	}
	below, err := unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, fmt.Errorf("%q below %q: %w", name, at.Name(), err)
	}
	f := os.NewFile(uintptr(below), filepath.Join(at.Name(), name))
	if made {
		err = f.Chmod(mode) // whatever the umask was
	}
	if err = errors.Join(err, at.Sync()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// syncParent makes the name of a directory durable; a Build before this one
// may have died before it could.
func syncParent(path string) error {
	parent, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("cannot open the directory above %q: %w", path, err)
	}
	defer parent.Close()
	if err := parent.Sync(); err != nil {
		return fmt.Errorf("cannot make the name %q durable: %w", path, err)
	}
	return nil
}

// Start makes sure that the directory is there, and is the one that is known, and
// may be read and written. A read-only file system is no reason to refuse: it may hold images to read.
func (t Tree) Start(ctx context.Context, p backends.Pool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d, err := t.openKnown(p)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.storage(); err != nil {
		return err
	}
	err = retry(func() error {
		return unix.Faccessat(d.fd(), ".", unix.R_OK|unix.W_OK|unix.X_OK, unix.AT_EACCESS)
	})
	if err != nil && !errors.Is(err, unix.EROFS) {
		return fmt.Errorf("pool directory %q cannot be used by this user: %w", p.Target, err)
	}
	return nil
}

// storage refuses a directory that stores nothing.
func (d *poolDir) storage() error { return stores(d.fd(), d.target) }

// stores refuses a directory of a file system that shows the kernel, and stores
// nothing: to read all of it, as pools are read, takes long and finds no image.
func stores(fd int, target string) error {
	var fs unix.Statfs_t
	if err := retry(func() error { return unix.Fstatfs(fd, &fs) }); err != nil {
		return fmt.Errorf("cannot look at the file system of pool directory %q: %w", target, err)
	}
	switch fs.Type {
	case unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC, unix.DEBUGFS_MAGIC, unix.TRACEFS_MAGIC, unix.DEVPTS_SUPER_MAGIC:
		return fmt.Errorf("pool directory %q is %w: its file system is the kernel's own and stores nothing", target, backends.ErrUnsupported)
	}
	return nil
}
