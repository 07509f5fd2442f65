package filetree

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"storaged/internal/backends"
	"storaged/internal/backends/header"
	"storaged/internal/blockdev"
	"storaged/internal/record"
)

// batch is how many bytes of names are read at once: directories may be huge.
const batch = 32 << 10

// Refresh reads the directory. A name deleted and made again meanwhile may be
// found twice or not at all, as with readdir(3).
func (t Tree) Refresh(ctx context.Context, p backends.Pool, found func(backends.VolumeInfo) error) (backends.PoolInfo, error) {
	if err := ctx.Err(); err != nil {
		return backends.PoolInfo{}, err
	}
	d, err := t.openKnown(p)
	if err != nil {
		return backends.PoolInfo{}, err
	}
	defer d.Close()
	in := header.NewReader()
	err = d.each(ctx, func(e entry) error {
		if e.kind == unix.DT_DIR {
			return nil // it is not even looked at: what is mounted on it may not answer
		}
		if info, ok := d.look(e.name, in); ok {
			return found(info)
		}
		return nil
	})
	if err != nil {
		return backends.PoolInfo{}, err
	}
	info, err := d.info()
	info.Disk = blockdev.DiskOf(d.File)
	return info, err
}

// Space asks the file system, and reads no directory.
func (t Tree) Space(ctx context.Context, p backends.Pool) (backends.PoolInfo, error) {
	if err := ctx.Err(); err != nil {
		return backends.PoolInfo{}, err
	}
	d, err := t.openKnown(p)
	if err != nil {
		return backends.PoolInfo{}, err
	}
	defer d.Close()
	return d.info()
}

// entry is a name in the directory.
type entry struct {
	name string
	kind byte // unix.DT_REG, …; DT_UNKNOWN where the file system does not tell
}

// each calls do for every entry of the directory, hostile ones included.
func (d *poolDir) each(ctx context.Context, do func(entry) error) error {
	if _, err := d.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("cannot read pool directory: %w", err)
	}
	buf := make([]byte, batch)
	for {
		n := 0
		err := retry(func() (err error) {
			n, err = unix.Getdents(d.fd(), buf)
			return err
		})
		if err != nil {
			return fmt.Errorf("cannot read pool directory: %w", err)
		}
		if n == 0 {
			return nil
		}
		for _, e := range entries(buf[:n]) {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := do(e); err != nil {
				return err
			}
		}
	}
}

// entries reads what getdents64(2) gave. Package os does not give the kinds
// without asking the file system for those that the directory does not tell.
func entries(b []byte) (all []entry) {
	const length, kind, name = 16, 18, 19 // offsets of d_reclen, d_type and d_name
	for len(b) > name {
		size := int(binary.NativeEndian.Uint16(b[length:]))
		text, _, _ := bytes.Cut(b[name:size], []byte{0})
		if e := (entry{string(text), b[kind]}); e.name != "." && e.name != ".." {
			all = append(all, e)
		}
		b = b[size:]
	}
	return all
}

// look tells what a name is; ok is false for what nobody needs to hear of:
// directories, volumes in the making, what has just gone.
func (d *poolDir) look(name string, in *header.Reader) (info backends.VolumeInfo, ok bool) {
	if _, _, snapshot := record.ParseSnapshot(name); record.Reserved(name) && !snapshot || deletedInUse(name) {
		return info, false
	}
	info, st, err := d.seen(name)
	if errors.Is(err, unix.ENOENT) || err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return info, false
	}
	if errors.Is(err, unix.EXDEV) {
		return ignored(name, mountPoint), true
	}
	if err != nil {
		return ignored(name, err.Error()), true
	}
	if err := checkStored(name); err != nil {
		return ignored(name, err.Error()), true
	}
	if why := danger(&st); why != "" {
		return linkedOr(ignored(name, why), info, &st), true
	}
	err = d.inspect(&info, in)
	if errors.Is(err, backends.ErrUnsafe) {
		return ignored(name, err.Error()), true
	}
	return info, !errors.Is(err, backends.ErrNotFound)
}

// seen is what can be told of a name without opening what it means.
func (d *poolDir) seen(name string) (info backends.VolumeInfo, st unix.Statx_t, err error) {
	err = d.reach(name, func(path *os.File) (err error) {
		st, err = blockdev.Statx(path)
		info = infoOf(name, d.path(name), path, &st)
		return err
	})
	return info, st, err
}

// linkedOr tells of a regular file all that is known, beside why it is ignored:
// it has several names, and may be a volume.
func linkedOr(ignored, info backends.VolumeInfo, st *unix.Statx_t) backends.VolumeInfo {
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink < 2 {
		return ignored
	}
	info.Ignored = ignored.Ignored
	return info
}

func ignored(name, why string) backends.VolumeInfo {
	return backends.VolumeInfo{Name: record.Escape(name), Ignored: why}
}

// inspect reads a volume's header. A volume that cannot be opened or read just
// now keeps an empty format; it is a volume all the same.
func (d *poolDir) inspect(info *backends.VolumeInfo, in *header.Reader) error {
	f, err := d.open(info.Name, os.O_RDONLY)
	if err != nil {
		return err
	}
	defer f.Close()
	info.Permissions.Label = labelOf(f)
	return in.Read(f, info)
}

// info reads the figures of the pool as a whole.
func (d *poolDir) info() (backends.PoolInfo, error) {
	bad := func(err error) (backends.PoolInfo, error) {
		return backends.PoolInfo{}, fmt.Errorf("cannot read the figures of pool directory %q: %w", d.target, err)
	}
	id, fs, err := d.id()
	if err != nil {
		return bad(err)
	}
	path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", d.fd()))
	if err != nil {
		return bad(err)
	}
	st, err := blockdev.Statx(d.File)
	if err != nil {
		return bad(err)
	}
	permissions := permissionsOf(&st)
	permissions.Label = labelOf(d.File)
	return backends.PoolInfo{
		Path:        path,
		Permissions: permissions,
		ID:          id.identity(),
		Capacity:    int64(fs.Blocks) * fs.Frsize,
		Allocation:  int64(fs.Blocks-fs.Bfree) * fs.Frsize,
		Available:   int64(fs.Bavail) * fs.Frsize,
	}, nil
}
