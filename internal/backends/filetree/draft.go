package filetree

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"storaged/internal/backends"
	"storaged/internal/backends/header"
	"storaged/internal/blockdev"
	"storaged/internal/crash"
	"storaged/internal/image"
	"storaged/internal/record"
)

// draftMode is for root and the daemon alone, from the first instant.
const draftMode = 0o600

// draft is a volume in the making: a file by its temporary name.
type draft struct {
	held
	temp string
	fate fate
	err  error // of the Commit that failed

	replaced bool // it has taken the name of another volume, whatever failed then
}

var (
	_ backends.Draft    = (*draft)(nil)
	_ backends.Replacer = (*draft)(nil)
)

// fate is what became of a draft.
type fate int

const (
	undecided fate = iota
	failed
	committed
	discarded
)

// Clean: what was not written of a file reads as zeros.
func (d *draft) Clean() bool { return true }

// Create makes an empty file by a temporary name.
func (t Tree) Create(ctx context.Context, p backends.Pool, v backends.NewVolume) (backends.Draft, error) {
	if err := record.CheckJob(v.Job); err != nil {
		return nil, err
	}
	d, err := t.enter(ctx, p, v.Name)
	if err != nil {
		return nil, err
	}
	dr, err := d.newDraft(v, record.DraftName(v.Job))
	if err != nil {
		d.Close()
		return nil, err
	}
	return dr, nil
}

func (d *poolDir) newDraft(v backends.NewVolume, temp string) (*draft, error) {
	name := v.Name
	if !v.Replaces {
		if err := d.free(name); err != nil {
			return nil, err
		}
	}
	f, err := d.openBeneath(temp, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, draftMode)
	if err != nil {
		return nil, fmt.Errorf("cannot create volume %q as %q: %w", d.path(name), temp, err)
	}
	crash.At(crash.Drafted)
	dr := &draft{held: d.hold(f, name), temp: temp}
	if err := f.Chmod(draftMode); err != nil { // whatever the umask was
		return nil, errors.Join(fmt.Errorf("cannot create volume %q: %w", d.path(name), err), dr.drop())
	}
	if err := d.busy(temp, image.LockNew(f)); err != nil {
		return nil, errors.Join(err, dr.drop())
	}
	return dr, nil
}

// Resume takes up the temporary file of a process that has died.
func (t Tree) Resume(ctx context.Context, p backends.Pool, name, job, left string) (backends.Draft, error) {
	for _, j := range []string{job, left} {
		if err := record.CheckJob(j); err != nil {
			return nil, err
		}
	}
	d, err := t.enter(ctx, p, name)
	if err != nil {
		return nil, err
	}
	dr, err := d.takeDraft(name, record.DraftName(left), record.DraftName(job))
	if err != nil {
		d.Close()
		return nil, err
	}
	return dr, nil
}

// takeDraft opens a temporary file that is there and gives it another
// temporary name.
func (d *poolDir) takeDraft(name, left, temp string) (*draft, error) {
	f, err := d.openLocked(left, backends.WriteExclusive)
	if err != nil {
		return nil, err
	}
	dr := &draft{held: d.hold(f, name), temp: left}
	if err := d.free(name); err != nil {
		return nil, errors.Join(err, dr.drop())
	}
	if left == temp {
		return dr, nil
	}
	if err := d.rename(f, left, d, temp); err != nil {
		return nil, errors.Join(err, dr.volume.Close())
	}
	dr.temp = temp
	if err := d.sync(); err != nil {
		return nil, errors.Join(err, dr.volume.Close())
	}
	return dr, nil
}

// free fails if anything has the name, of whatever kind.
func (d *poolDir) free(name string) error {
	_, err := d.stat(name)
	if err == nil || errors.Is(err, unix.EXDEV) {
		return fmt.Errorf("volume %q %w", d.path(name), backends.ErrExists)
	}
	if !errors.Is(err, unix.ENOENT) {
		return d.refusal(name, err)
	}
	return nil
}

// Commit gives the draft its name.
func (d *draft) Commit(ctx context.Context, record func(identity []byte) error) error {
	return d.once(func() error {
		if err := d.sound(ctx); err != nil {
			return err
		}
		if err := d.dir.free(d.name); err != nil {
			return err
		}
		if err := d.recorded(ctx, record); err != nil {
			return err
		}
		return d.rename(d.temp, d.dir, d.name)
	})
}

// Replace gives the draft the name of the volume that old is.
func (d *draft) Replace(ctx context.Context, old backends.Taken, aside string, record func(identity []byte) error) error {
	was, ok := old.(*taken)
	if !ok || was.name != d.name {
		panic("internal error: what is to be replaced is no volume of this name")
	}
	return d.once(func() error {
		if err := d.sound(ctx); err != nil {
			return err
		}
		if err := d.dir.busy(d.name, image.Unused(was.file)); err != nil {
			return err
		}
		if err := d.dir.confirm(d.name, was.file); err != nil {
			return err
		}
		if aside != "" {
			if err := d.dir.free(aside); err != nil {
				return err
			}
		}
		if err := d.recorded(ctx, record); err != nil {
			return err
		}
		defer release(was.file)
		return d.replace(was.file, aside)
	})
}

// once decides the fate of the draft.
func (d *draft) once(commit func() error) error {
	switch d.fate {
	case failed:
		return d.err // a second fsync would lie
	case committed, discarded:
		panic("internal error: commit of a draft that has ended")
	}
	d.fate = failed
	if d.err = commit(); d.err != nil {
		d.err = fmt.Errorf("cannot complete volume %q: %w", d.path, d.err)
		return d.err
	}
	d.fate = committed
	return nil
}

// sound makes the content durable and looks whether the temporary name still means
// it.
func (d *draft) sound(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := d.file.Sync(); err != nil {
		return err
	}
	crash.At(crash.Synced)
	err := d.dir.confirm(d.temp, d.file)
	if st, serr := d.stat(); serr == nil && (st.Nlink == 0 || errors.Is(err, backends.ErrNotFound)) {
		return &backends.UnmadeError{Path: d.dir.path(d.temp)}
	}
	return err
}

// replace renames over the name, from which there is no way back. What had it has the
// name aside before, if it is to have that: at no time is there nothing by the name.
func (d *draft) replace(old *os.File, aside string) error {
	if aside != "" {
		err := retry(func() error { return unix.Linkat(d.dir.fd(), d.name, d.dir.fd(), aside, 0) })
		if err = d.dir.renamed(aside, err); err != nil {
			return err
		}
		if d.dir.keepsDeleted() {
			err = d.dir.follow(old, aside)
		}
		if err := errors.Join(err, d.dir.sync()); err != nil { // before the other name can be gone
			return errors.Join(err, d.dir.unlink(aside))
		}
		crash.At(crash.Linked)
	}
	err := retry(func() error { return unix.Renameat(d.dir.fd(), d.temp, d.dir.fd(), d.name) })
	if err != nil {
		err = fmt.Errorf("cannot give the name %q: %w", d.name, err)
		if aside != "" {
			err = errors.Join(err, d.dir.unlink(aside))
		}
		return err
	}
	d.replaced = true
	crash.At(crash.Renamed)
	if err := d.dir.confirm(d.name, d.file); err != nil {
		return err
	}
	return d.dir.sync()
}

// rename moves the name of an open file, to another directory too, without replacing
// another.
func (d *poolDir) rename(f *os.File, from string, dst *poolDir, to string) error {
	err := retry(func() error {
		return unix.Renameat2(d.fd(), from, dst.fd(), to, unix.RENAME_NOREPLACE)
	})
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		return d.link(f, from, dst, to) // the file system cannot rename so
	}
	return dst.renamed(to, err)
}

// link is rename in two steps, for file systems without RENAME_NOREPLACE (NFS,
// many of FUSE). A crash in between leaves both names; Settle and SettleTaken
// know that.
func (d *poolDir) link(f *os.File, from string, dst *poolDir, to string) error {
	err := retry(func() error { return unix.Linkat(d.fd(), from, dst.fd(), to, 0) })
	if err != nil {
		return dst.renamed(to, err)
	}
	if err = dst.follow(f, to); err == nil {
		err = d.unlink(from)
	}
	if err != nil {
		return errors.Join(err, dst.unlink(to))
	}
	return nil
}

// follow has an open file, with the locks of a writer, be open by another name that it has
// now. As long as it is open by the name that is to go, a client of NFS gives it one more in
// place of that, which stays until it is closed. Its descriptor stays the same; the locks are
// let go for a moment.
func (d *poolDir) follow(f *os.File, name string) error {
	again, err := d.openBeneath(name, unix.O_RDWR, 0)
	if err != nil {
		return d.refusal(name, err)
	}
	defer again.Close() // f is it by then
	was, err := blockdev.Statx(f)
	is, err2 := blockdev.Statx(again)
	switch {
	case err != nil || err2 != nil:
		return d.refusal(name, errors.Join(err, err2))
	case !same(&was, &is):
		return d.unsafe(name, "it was replaced just now")
	}
	if err := unix.Dup3(int(again.Fd()), int(f.Fd()), unix.O_CLOEXEC); err != nil {
		return fmt.Errorf("cannot open volume %q by another name: %w", d.path(name), err)
	}
	return d.busy(name, image.LockNew(f))
}

func (d *poolDir) renamed(to string, err error) error {
	if errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("volume %q %w", d.path(to), backends.ErrExists)
	}
	if err != nil {
		return fmt.Errorf("cannot give the name %q: %w", to, err)
	}
	return nil
}

// Discard deletes the draft's file, whatever of its names still means it.
func (d *draft) Discard() error {
	switch {
	case d.fate == committed:
		return fmt.Errorf("cannot discard volume %q: it is complete", d.path)
	case d.fate == discarded:
		return nil
	case d.replaced:
		return fmt.Errorf("cannot discard volume %q: what had its name before has it no longer", d.path)
	}
	if err := d.drop(); err != nil {
		return fmt.Errorf("cannot discard what was made of volume %q: %w", d.path, err)
	}
	d.fate = discarded
	return nil
}

// drop unlinks the draft durably and closes it. It may have its final name, or
// both, when a Commit failed so badly that it could not be undone either.
func (d *draft) drop() error {
	for _, name := range []string{d.temp, d.name} {
		if err := d.dropName(name); err != nil {
			return err
		}
	}
	if err := d.dir.sync(); err != nil {
		return err
	}
	release(d.file)
	return d.volume.Close()
}

// dropName unlinks a name if it still means the draft's file.
func (d *draft) dropName(name string) error {
	st, err := d.dir.stat(name)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EXDEV) {
		return nil
	}
	if err != nil {
		return err
	}
	mine, err := blockdev.Statx(d.file)
	if err != nil {
		return err
	}
	if !same(&st, &mine) {
		return nil
	}
	return d.dir.unlink(name)
}

// identity is how Settle knows a file again, also after a reboot. The device's
// number is no part of it: it may be another one then (btrfs, NFS, loop
// devices), and the pool's directory pins the file system.
type identity struct {
	Inode   uint64 `json:"inode"`
	BirthNS int64  `json:"birth_ns"` // 0 where the file system keeps none
	Size    int64  `json:"size"`     // bytes at commit
}

func identityOf(st *unix.Statx_t) identity {
	return identity{Inode: st.Ino, BirthNS: header.BirthNS(st), Size: int64(st.Size)}
}

// matches reports whether a file as it is now is the one that was committed.
// Inode and birth are enough; somebody may have written to it since.
func (id identity) matches(now identity) bool {
	if id.BirthNS == 0 {
		return id == now
	}
	return id.Inode == now.Inode && id.BirthNS == now.BirthNS
}

func encodeIdentity(id any) []byte {
	b, err := json.Marshal(id)
	if err != nil {
		panic("internal error: " + err.Error()) // numbers
	}
	return b
}
