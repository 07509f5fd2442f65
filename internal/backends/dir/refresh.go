package dir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"storaged/internal/backends"
	"storaged/internal/image"
)

// batch is how many names are read at once: directories may be huge.
const batch = 256

// Refresh reads the directory. A name deleted and made again meanwhile may be
// found twice or not at all, as with readdir(3).
func (Backend) Refresh(ctx context.Context, p backends.Pool, found func(backends.VolumeInfo) error) (backends.PoolInfo, error) {
	if err := ctx.Err(); err != nil {
		return backends.PoolInfo{}, err
	}
	d, err := openKnown(p)
	if err != nil {
		return backends.PoolInfo{}, err
	}
	defer d.Close() // opened for reading
	header := make([]byte, image.HeaderSize)
	err = d.each(ctx, func(name string) error {
		if info, ok := d.look(name, header); ok {
			return found(info)
		}
		return nil
	})
	if err != nil {
		return backends.PoolInfo{}, err
	}
	return d.info()
}

// each calls do for every name in the directory, hostile ones included.
func (d *poolDir) each(ctx context.Context, do func(name string) error) error {
	if _, err := d.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("cannot read pool directory: %w", err)
	}
	for {
		names, err := d.Readdirnames(batch)
		for _, name := range names {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := do(name); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("cannot read pool directory: %w", err)
		}
	}
}

// look tells what a name is; ok is false for what nobody needs to hear of:
// directories, volumes in the making, what has just gone.
func (d *poolDir) look(name string, header []byte) (info backends.VolumeInfo, ok bool) {
	if backends.Reserved(name) {
		return info, false
	}
	st, err := d.stat(name)
	if errors.Is(err, unix.ENOENT) || err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return info, false
	}
	if err != nil {
		return ignored(name, err.Error()), true
	}
	if err := backends.CheckName(name); err != nil {
		return ignored(name, err.Error()), true
	}
	if why := danger(&st); why != "" {
		return ignored(name, why), true
	}
	info = infoOf(name, d.path(name), &st)
	err = d.inspect(&info, header)
	if errors.Is(err, backends.ErrUnsafe) {
		return ignored(name, err.Error()), true
	}
	return info, !errors.Is(err, backends.ErrNotFound)
}

func ignored(name, why string) backends.VolumeInfo {
	return backends.VolumeInfo{Name: backends.Escape(name), Ignored: why}
}

// inspect reads a volume's header. A volume that cannot be opened or read just
// now keeps an empty format; it is a volume all the same.
func (d *poolDir) inspect(info *backends.VolumeInfo, header []byte) error {
	f, err := d.open(info.Name, os.O_RDONLY)
	if err != nil {
		return err
	}
	defer f.Close() // opened for reading
	n, err := f.ReadAt(header, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	h := image.Inspect(header[:n])
	info.Format, info.Backing = h.Format, backends.Escape(h.Backing)
	if h.Capacity > 0 {
		info.Capacity = h.Capacity
	}
	return nil
}

// info reads the figures of the pool as a whole.
func (d *poolDir) info() (backends.PoolInfo, error) {
	bad := func(err error) (backends.PoolInfo, error) {
		return backends.PoolInfo{}, fmt.Errorf("cannot read the figures of pool directory %q: %w", d.target, err)
	}
	var fs unix.Statfs_t
	if err := retry(func() error { return unix.Fstatfs(d.fd(), &fs) }); err != nil {
		return bad(err)
	}
	id, err := d.id()
	if err != nil {
		return bad(err)
	}
	path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", d.fd()))
	if err != nil {
		return bad(err)
	}
	return backends.PoolInfo{
		Path:       path,
		ID:         id,
		Capacity:   int64(fs.Blocks) * fs.Frsize,
		Allocation: int64(fs.Blocks-fs.Bfree) * fs.Frsize,
		Available:  int64(fs.Bavail) * fs.Frsize,
		Disk:       diskOf(d.File),
	}, nil
}
