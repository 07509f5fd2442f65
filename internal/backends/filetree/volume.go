package filetree

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"storaged/internal/backends"
	"storaged/internal/backends/header"
	"storaged/internal/blockdev"
	"storaged/internal/crash"
	"storaged/internal/diskio"
	"storaged/internal/image"
	"storaged/internal/record"
)

// volume is an open file of a pool.
type volume struct {
	file *os.File
	name string
	path string
}

var (
	_ backends.Volume  = (*volume)(nil)
	_ backends.Resizer = (*volume)(nil)
	_ backends.Sharer  = (*volume)(nil)
)

// Open opens a volume with QEMU's image locks.
func (t Tree) Open(ctx context.Context, p backends.Pool, name string, a backends.Access) (backends.Volume, error) {
	d, err := t.enter(ctx, p, name)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	f, err := d.openLocked(name, a)
	if err != nil {
		return nil, err
	}
	return &volume{f, name, d.path(name)}, nil
}

// Look tells what has the name.
func (t Tree) Look(ctx context.Context, p backends.Pool, name string) (backends.VolumeInfo, error) {
	d, err := t.enter(ctx, p, name)
	if err != nil {
		return backends.VolumeInfo{}, err
	}
	defer d.Close()
	if info, ok := d.look(name, header.NewReader()); ok {
		return info, nil
	}
	st, err := d.stat(name)
	if err != nil {
		return backends.VolumeInfo{}, d.refusal(name, err)
	}
	return ignored(name, danger(&st)), nil
}

// enter opens the pool for an operation on a volume.
func (t Tree) enter(ctx context.Context, p backends.Pool, name string) (*poolDir, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := checkStored(name); err != nil {
		return nil, err
	}
	return t.openKnown(p)
}

// remove unlinks name under its lock. It is not durable yet.
func (d *poolDir) remove(name string) error {
	f, err := d.openLocked(name, backends.WriteExclusive)
	if err != nil {
		return err
	}
	defer f.Close()
	defer release(f)
	return d.unlink(name)
}

// release gives the storage of a file back that has no name any more, if it is so. The
// kernel does that by itself when nothing refers to the file, which can be seconds later:
// the rules that a confined process was under do, and are taken apart when there is time
// (landlock(7)). Until then the room would be missing.
func release(f *os.File) {
	if st, err := blockdev.Statx(f); err == nil && st.Nlink == 0 {
		_ = f.Truncate(0) // else it goes with the last that refers to it
	}
}

func (d *poolDir) unlink(name string) error {
	err := retry(func() error { return unix.Unlinkat(d.fd(), name, 0) })
	if err != nil {
		return fmt.Errorf("cannot delete %q: %w", d.path(name), err)
	}
	return nil
}

func (v *volume) Content() diskio.Content { return diskio.FileContent(v.file) }

// Info reads the file's size and times.
func (v *volume) Info() (backends.VolumeInfo, error) {
	st, err := v.stat()
	if err != nil {
		return backends.VolumeInfo{}, err
	}
	info := infoOf(v.name, v.path, v.file, &st)
	info.Permissions.Label = labelOf(v.file)
	return info, nil
}

func (v *volume) stat() (unix.Statx_t, error) {
	st, err := blockdev.Statx(v.file)
	if err != nil {
		err = fmt.Errorf("cannot read properties of volume %q: %w", v.path, err)
	}
	return st, err
}

// Is compares inode and birth, on file systems where those last, or what else a file is
// known by. An overlay has the inodes of the layers that its files lie in, and gives a file
// another birth when it is first written: there both have to be handles.
func (v *volume) Is(id backends.Identity) error {
	if id == "" {
		return nil
	}
	var fs unix.Statfs_t
	if err := retry(func() error { return unix.Fstatfs(int(v.file.Fd()), &fs) }); err != nil {
		return fmt.Errorf("cannot look at the file system of volume %q: %w", v.path, err)
	}
	info, err := v.Info()
	if err != nil || passes(fs.Type) && !handled(id, info.ID) || (Tree{}).Same(Tree{}.Lasting(id), info.ID) {
		return err
	}
	return &backends.AnotherError{Path: v.path}
}

// ShareGrowth gives up the part of the lock that keeps the size.
func (v *volume) ShareGrowth() error { return busy(v.path, image.ShareGrowth(v.file)) }

// KeepSize takes that part again and looks whether the file is still one.
func (v *volume) KeepSize() error {
	if err := busy(v.path, image.KeepSize(v.file)); err != nil {
		return err
	}
	st, err := v.stat()
	if err != nil {
		return err
	}
	if why := danger(&st); why != "" {
		return unsafe(v.path, why)
	}
	return nil
}

// Close releases the locks, unless another process has the open file too. Data
// that must not be lost was made durable before.
func (v *volume) Close() error {
	if v.file == nil {
		return nil
	}
	f := v.file
	v.file = nil
	if err := f.Close(); err != nil {
		return fmt.Errorf("cannot close volume %q: %w", v.path, err)
	}
	return nil
}

// Resize changes the length of the file, durably.
func (v *volume) Resize(ctx context.Context, p *diskio.Pacer, spec diskio.ResizeSpec) (diskio.AllocateStats, error) {
	return diskio.Resize(ctx, p, v.file, spec)
}

// infoOf is what a look at a file, which is open at least as a path, tells of a volume.
func infoOf(name, path string, f *os.File, st *unix.Statx_t) backends.VolumeInfo {
	at := fileAt(path)
	return backends.VolumeInfo{
		Name:        name,
		Path:        at.Path,
		Key:         at.Key,
		Type:        at.Type,
		Capacity:    int64(st.Size),
		Size:        int64(st.Size),
		Allocation:  int64(st.Blocks) * 512, // statx(2): always units of 512
		ID:          header.FileID(f, st),
		Change:      timeOf(st.Ctime),
		Modify:      timeOf(st.Mtime),
		Access:      timeOf(st.Atime),
		Birth:       birthOf(st),
		Permissions: permissionsOf(st),
	}
}

func permissionsOf(st *unix.Statx_t) *record.Permissions {
	return &record.Permissions{Mode: fmt.Sprintf("%04o", st.Mode&0o7777), Owner: st.Uid, Group: st.Gid}
}

// labelOf is the label of a file or directory as it can be shown. One that is longer than
// any is not.
func labelOf(f *os.File) string {
	label := record.Escape(diskio.LabelOf(f))
	if len(label) > record.MaxLabel {
		return ""
	}
	return label
}

// birthOf is zero on file systems that do not keep it.
func birthOf(st *unix.Statx_t) time.Time {
	if st.Mask&unix.STATX_BTIME == 0 {
		return time.Time{}
	}
	return timeOf(st.Btime)
}

func timeOf(t unix.StatxTimestamp) time.Time { return time.Unix(t.Sec, int64(t.Nsec)).UTC() }

// held is an open volume whose name is the caller's to change, and the directory
// that it lies in.
type held struct {
	volume
	dir *poolDir
}

func (d *poolDir) hold(f *os.File, name string) held { return held{volume{f, name, d.path(name)}, d} }

// Close gives up the locks and the directory.
func (h *held) Close() error {
	err := h.volume.Close()
	h.dir.Close() // a second time does no harm
	return err
}

// recorded has the identity of the file recorded.
func (h *held) recorded(ctx context.Context, record func(identity []byte) error) error {
	st, err := h.stat()
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return err
	}
	return record(encodeIdentity(identityOf(&st)))
}

// rename gives the file another name. If that cannot be made durable or the name
// turns out to be something else (the directory is hostile), it takes it back.
func (h *held) rename(from string, dst *poolDir, to string) error {
	if err := h.dir.rename(h.file, from, dst, to); err != nil {
		return err
	}
	crash.At(crash.Renamed)
	err := dst.confirm(to, h.file)
	if err == nil {
		err = dst.sync()
	}
	if err == nil && dst != h.dir {
		err = h.dir.sync()
	}
	if err == nil {
		return nil
	}
	return errors.Join(err, dst.rename(h.file, to, h.dir, from))
}
