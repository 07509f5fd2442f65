package filetree

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"storaged/internal/backends"
	"storaged/internal/blockdev"
	"storaged/internal/diskio"
	"storaged/internal/image"
	"storaged/internal/record"
)

// poolDir is the open directory of a pool.
type poolDir struct {
	*os.File
	target string
}

var _ backends.Directory = (*poolDir)(nil)

// Directory is the open directory itself.
func (d *poolDir) Directory() *os.File { return d.File }

// openPool opens the directory. Links on the way to it are followed: they are
// the administrator's.
func openPool(p backends.Pool) (*poolDir, error) {
	if err := record.CheckPath(p.Target); err != nil {
		return nil, err
	}
	f, err := openDir(p.Target)
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil, fmt.Errorf("pool directory %q: %w", p.Target, backends.ErrNotFound)
	case errors.Is(err, unix.ENOTDIR):
		return nil, fmt.Errorf("pool target %q is not a directory", p.Target)
	case err != nil:
		return nil, fmt.Errorf("cannot open pool directory: %w", err)
	}
	return &poolDir{f, p.Target}, nil
}

// openDir opens a directory without a try to have it polled, as os.OpenFile makes
// one of everything.
func openDir(path string) (f *os.File, err error) {
	fd := -1
	err = retry(func() (err error) {
		fd, err = unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// openKnown opens the directory, which must be the one that is meant. Of one that
// was there before, nothing but what is in it can be missing.
func (t Tree) openKnown(p backends.Pool) (*poolDir, error) {
	if known, ok := p.Opened.(*poolDir); ok {
		return known.again()
	}
	d, err := openPool(p)
	switch {
	case p.ID == "" && err == nil && t.Belongs != nil:
		if err := t.Belongs(p, d.File); err != nil {
			d.Close()
			return nil, err
		}
		return d, nil
	case p.ID == "":
		return d, err
	case err == nil:
	case errors.Is(err, backends.ErrNotFound):
		return nil, away(p, errors.New("is not there: it was moved or removed, or what holds it is not mounted"))
	case errors.Is(err, unix.EACCES):
		return nil, forbidden(p, err)
	default:
		return nil, &backends.AwayError{Target: p.Target, Err: err}
	}
	if err := d.meant(p); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// meant fails unless the directory, which is open at least as a path, is the one that is
// known.
func (d *poolDir) meant(p backends.Pool) error {
	id, _, err := d.id()
	if err != nil {
		return away(p, fmt.Errorf("cannot be looked at: %w", err))
	}
	if (Tree{}).Same(p.ID, id.identity()) {
		return nil
	}
	known, err := parseID(p.ID)
	if err != nil {
		return err
	}
	return away(p, fmt.Errorf("%w: %s", backends.ErrReplaced, known.replacedBy(id)))
}

// forbidden says why a directory cannot be opened that this process may not open. One that is
// confined may open the pool's, and no other that has come to its place.
func forbidden(p backends.Pool, cause error) error {
	fd, err := unix.Open(p.Target, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == nil {
		d := &poolDir{os.NewFile(uintptr(fd), p.Target), p.Target}
		defer d.Close() // it is a path only
		if err := d.meant(p); err != nil {
			return err
		}
	}
	return &backends.AwayError{Target: p.Target, Err: cause}
}

// OpenPool opens the directory.
func (t Tree) OpenPool(ctx context.Context, p backends.Pool) (backends.Pool, error) {
	if err := ctx.Err(); err != nil {
		return p, err
	}
	d, err := t.openKnown(p)
	if err == nil {
		p.Opened = d
	}
	return p, err
}

// again opens the directory once more, which may have another path by now.
func (d *poolDir) again() (*poolDir, error) {
	fd, err := unix.Openat(d.fd(), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open pool directory %q: %w", d.target, err)
	}
	return &poolDir{os.NewFile(uintptr(fd), d.target), d.target}, nil
}

func away(p backends.Pool, why error) error {
	return &backends.AwayError{Target: p.Target, Err: fmt.Errorf("pool directory %q %w", p.Target, why)}
}

// path is where a name lies, for people and tools.
func (d *poolDir) path(name string) string { return filepath.Join(d.target, name) }

// fd is valid as long as d is open; the directory is never in the poller.
func (d *poolDir) fd() int { return int(d.Fd()) }

// sync makes the names in the directory durable.
func (d *poolDir) sync() error {
	if err := d.Sync(); err != nil {
		return fmt.Errorf("cannot make pool directory durable: %w", err)
	}
	return nil
}

// stat looks at a name without opening or following it.
func (d *poolDir) stat(name string) (st unix.Statx_t, err error) {
	err = d.reach(name, func(path *os.File) (err error) {
		st, err = blockdev.Statx(path)
		return err
	})
	return st, err
}

// reach gives look what a name means, open as a path only. EXDEV says that
// something is mounted there: statx(2) by name would ask that, which may belong
// to a server that is dead, and so the way ends before it.
func (d *poolDir) reach(name string, look func(path *os.File) error) error {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: beneath}
	fd := -1
	err := retry(func() (err error) {
		fd, err = unix.Openat2(d.fd(), name, &how)
		return err
	})
	if err != nil {
		return err
	}
	path := os.NewFile(uintptr(fd), name)
	defer path.Close() // it is a path only
	return look(path)
}

// beneath keeps the way to a name in the directory and on its file system, and
// follows nothing.
const beneath = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV

func statx(fd int, name string, flags int) (st unix.Statx_t, err error) {
	err = retry(func() error {
		return unix.Statx(fd, name, flags, unix.STATX_BASIC_STATS|unix.STATX_BTIME|unix.STATX_MNT_ID, &st)
	})
	return st, err
}

// open opens a volume's file or a draft, with no lock.
func (d *poolDir) open(name string, flags int) (*os.File, error) {
	st, err := d.stat(name)
	if err != nil {
		return nil, d.refusal(name, err)
	}
	if why := danger(&st); why != "" {
		return nil, d.unsafe(name, why)
	}
	f, err := d.openBeneath(name, flags, 0)
	if err != nil {
		return nil, d.refusal(name, err)
	}
	if st, err = blockdev.Statx(f); err == nil {
		if why := danger(&st); why != "" {
			err = d.unsafe(name, why)
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// openBeneath opens name without leaving the directory's file system, without
// following anything, without blocking and without making a terminal ours.
func (d *poolDir) openBeneath(name string, flags int, mode uint64) (*os.File, error) {
	how := unix.OpenHow{
		Flags:   uint64(flags) | unix.O_NONBLOCK | unix.O_NOFOLLOW | unix.O_CLOEXEC | unix.O_NOCTTY,
		Mode:    mode,
		Resolve: beneath,
	}
	fd := -1
	err := unleased(func() (err error) {
		fd, err = unix.Openat2(d.fd(), name, &how)
		return err
	})
	if err != nil {
		return nil, err
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFL, 0); err != nil { // it blocks again, for those who read and write it
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), d.path(name)), nil
}

// leasePatience is how long a lease may keep others from opening a file. Whoever asks
// the kernel who has it open holds one for an instant, and a file server gives up its
// own when it is asked to, which the first try does.
const leasePatience = time.Second

// unleased repeats an opening that must not block while somebody has a lease on the
// file (fcntl(2)).
func unleased(open func() error) error {
	err := retry(open)
	if err != unix.EAGAIN {
		return err
	}
	tick := time.NewTicker(leasePatience / 1000)
	defer tick.Stop()
	for end := time.Now().Add(leasePatience); err == unix.EAGAIN && time.Now().Before(end); <-tick.C {
		err = retry(open)
	}
	return err
}

// openLocked opens a volume with the image locks of the access and makes sure
// that the name still means the file that is locked.
func (d *poolDir) openLocked(name string, a backends.Access) (*os.File, error) {
	flags, lock := unix.O_RDWR, image.LockExclusive
	switch a {
	case backends.ReadShared:
		flags, lock = unix.O_RDONLY, image.LockShared
	case backends.Grow:
		lock = image.LockGrow
	}
	if err := d.foresee(name, a); err != nil {
		return nil, err
	}
	f, err := d.open(name, flags)
	if err != nil {
		return nil, err
	}
	if err = d.busy(name, lock(f)); err == nil {
		err = d.confirm(name, f)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// foresee refuses a volume in use before it is opened for writing, where that alone changes
// it: on an overlay what lies in a lower layer gets a copy in the upper one.
func (d *poolDir) foresee(name string, a backends.Access) error {
	if kind, err := diskio.FileSystemOf(d.File); err != nil || kind != unix.OVERLAYFS_SUPER_MAGIC || a == backends.ReadShared {
		return err
	}
	f, err := d.open(name, unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer f.Close() // nothing was written
	if a == backends.Grow {
		return d.busy(name, image.AskGrow(f))
	}
	if err := d.busy(name, image.AskExclusive(f)); err != nil {
		return err
	}
	return d.busy(name, image.Unused(f))
}

// looks bounds how often a file is looked at that changes all the time.
const looks = 8

// confirm fails unless name is the open file f, and its only name.
//
// rename(2) over a name counts the file that loses it as having one name less
// before the name is another's: in between, a file with a second name looks as if
// this were its only one. So it is looked at again when no rename is under way
// any more. To have got the name back by then, it must have been linked anew,
// which its time of change tells. One that somebody writes to without a lock
// would have to be met in such a moment each time.
func (d *poolDir) confirm(name string, f *os.File) error {
	before, err := d.alone(name, f)
	for range looks {
		if err == nil {
			err = d.settled()
		}
		if err != nil {
			return err
		}
		var now unix.Statx_t
		if now, err = d.alone(name, f); err == nil && now.Ctime == before.Ctime {
			return nil
		}
		before = now
	}
	return err // nil: it is written to all the time, and was alone each time
}

// alone gives what the open file f is, if name is its only name.
func (d *poolDir) alone(name string, f *os.File) (open unix.Statx_t, err error) {
	st, err := d.stat(name)
	if err != nil {
		return open, d.refusal(name, err)
	}
	if open, err = blockdev.Statx(f); err != nil {
		return open, d.refusal(name, err)
	}
	if !same(&st, &open) {
		return open, d.unsafe(name, "it was replaced just now")
	}
	if why := danger(&open); why != "" {
		return open, d.unsafe(name, why)
	}
	return open, nil
}

// settled returns when every rename in the directory that had begun is over:
// reading a directory waits for the lock that a rename holds.
func (d *poolDir) settled() error {
	self, err := unix.Openat(d.fd(), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("cannot read pool directory %q: %w", d.target, err)
	}
	defer unix.Close(self) // nothing was written
	var some [512]byte
	err = retry(func() error {
		_, err := unix.Getdents(self, some[:])
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot read pool directory %q: %w", d.target, err)
	}
	return nil
}

func (d *poolDir) busy(name string, err error) error { return busy(d.path(name), err) }

// busy turns the answer of an image lock into the error of this package.
func busy(path string, err error) error {
	var used *image.InUseError
	if errors.As(err, &used) {
		return &backends.BusyError{Object: path, Holder: used.Holder, Release: used.Release}
	}
	if err != nil {
		return fmt.Errorf("volume %q: %w", path, err)
	}
	return nil
}

// refusal tells what the kernel's refusal to look at or open a name means.
func (d *poolDir) refusal(name string, err error) error {
	switch {
	case errors.Is(err, unix.ENOENT):
		return &backends.MissingError{Path: d.path(name)}
	case errors.Is(err, unix.ELOOP):
		return d.unsafe(name, "it is a symbolic link")
	case errors.Is(err, unix.EXDEV):
		return d.unsafe(name, mountPoint)
	case errors.Is(err, unix.EISDIR):
		return d.unsafe(name, directory)
	case errors.Is(err, unix.ENXIO):
		return d.unsafe(name, "it is a device, a socket or a FIFO")
	case errors.Is(err, unix.EAGAIN): // somebody has a lease on it, fcntl(2)
		return &backends.BusyError{Object: d.path(name)}
	}
	return fmt.Errorf("cannot open volume %q: %w", d.path(name), err)
}

func (d *poolDir) unsafe(name, why string) error { return unsafe(d.path(name), why) }

func unsafe(path, why string) error {
	return fmt.Errorf("volume %q %w: %s", path, backends.ErrUnsafe, why)
}

// danger says why an object is no volume, "" if it may be one.
func danger(st *unix.Statx_t) string {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFDIR:
		return directory
	case unix.S_IFLNK:
		return "it is a symbolic link"
	case unix.S_IFIFO:
		return "it is a FIFO"
	case unix.S_IFSOCK:
		return "it is a socket"
	default:
		return "it is a device node"
	}
	if st.Nlink > 1 {
		return fmt.Sprintf("it has %d names (hard links)", st.Nlink)
	}
	if st.Nlink == 0 {
		return "it was deleted just now"
	}
	if st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 {
		return mountPoint
	}
	return ""
}

const (
	mountPoint = "it is a mount point"
	directory  = "it is a directory"
)

// same reports whether two looks saw one object.
func same(a, b *unix.Statx_t) bool {
	return a.Ino == b.Ino && a.Dev_major == b.Dev_major && a.Dev_minor == b.Dev_minor && a.Btime == b.Btime
}

// retry repeats a call that a signal interrupted.
func retry(call func() error) error {
	for {
		if err := call(); err != syscall.EINTR {
			return err
		}
	}
}
