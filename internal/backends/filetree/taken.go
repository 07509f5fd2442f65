package filetree

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"storaged/internal/backends"
	"storaged/internal/blockdev"
	"storaged/internal/crash"
	"storaged/internal/image"
)

// taken is a volume that is to leave its name.
type taken struct {
	held
	poolType string
	tree     Tree
}

var _ backends.Taken = (*taken)(nil)

// Take opens a volume to rename or remove it.
func (t Tree) Take(ctx context.Context, p backends.Pool, name string) (backends.Taken, error) {
	d, err := t.enter(ctx, p, name)
	if err != nil {
		return nil, err
	}
	f, err := d.openLocked(name, backends.WriteExclusive)
	if err != nil {
		d.Close()
		return nil, err
	}
	return &taken{d.hold(f, name), p.Type, t}, nil
}

// takenIdentity is how SettleTaken knows a file again.
type takenIdentity struct {
	identity
	ChangeNS int64 `json:"change_ns"` // ctime: any write or chown since then moves it
}

func takenIdentityOf(st *unix.Statx_t) takenIdentity {
	return takenIdentity{identityOf(st), timeOf(st.Ctime).UnixNano()}
}

func (t *taken) Identity() ([]byte, error) {
	st, err := t.stat()
	return encodeIdentity(takenIdentityOf(&st)), err
}

// Remove unlinks the file and makes that durable. It may have been open for
// long, and what the kernel has attached meanwhile heeds no lock.
func (t *taken) Remove() error {
	if err := t.dir.busy(t.name, image.Unused(t.file)); err != nil {
		return err
	}
	if err := t.dir.confirm(t.name, t.file); err != nil {
		return err
	}
	if err := t.dir.unlink(t.name); err != nil {
		return err
	}
	crash.At(crash.Removed)
	defer release(t.file)
	return t.dir.sync()
}

// Rename moves the file's name.
func (t *taken) Rename(ctx context.Context, to backends.Pool, name string, record func(identity []byte) error) error {
	if to.Type != t.poolType {
		return fmt.Errorf("pool %q %w", to.Target, backends.ErrElsewhere)
	}
	d, err := t.tree.enter(ctx, to, name)
	if err != nil {
		return err
	}
	if err = t.renamable(d, name); err == nil {
		err = t.recorded(ctx, record)
	}
	if err == nil {
		if err = t.rename(t.name, d, name); errors.Is(err, unix.EXDEV) { // quotas of projects, and what else statx(2) does not tell
			err = fmt.Errorf("pool directory %q %w", d.target, backends.ErrElsewhere)
		}
	}
	if err != nil {
		d.Close()
		return err
	}
	t.dir.Close()
	t.dir, t.name, t.path = d, name, d.path(name)
	return nil
}

// renamable looks whether the name can become one in that directory. The directories are
// compared: files on an overlay have device numbers of the layers that they lie in.
func (t *taken) renamable(d *poolDir, name string) error {
	here, err := blockdev.Statx(t.dir.File)
	if err != nil {
		return fmt.Errorf("cannot look at pool directory %q: %w", t.dir.target, err)
	}
	there, err := blockdev.Statx(d.File)
	if err != nil {
		return fmt.Errorf("cannot look at pool directory %q: %w", d.target, err)
	}
	if here.Mnt_id != there.Mnt_id || here.Dev_major != there.Dev_major || here.Dev_minor != there.Dev_minor {
		return fmt.Errorf("pool directory %q %w", d.target, backends.ErrElsewhere)
	}
	if err := d.free(name); err != nil {
		return err
	}
	return t.dir.confirm(t.name, t.file)
}

// SettleTaken removes what a move took its content from.
func (t Tree) SettleTaken(ctx context.Context, p backends.Pool, name string, identity []byte) error {
	var id takenIdentity
	if err := json.Unmarshal(identity, &id); err != nil {
		return fmt.Errorf("cannot read the identity of volume %q: %w", name, err)
	}
	d, err := t.enter(ctx, p, name)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.settleTaken(name, id); err != nil {
		return err
	}
	return d.sync() // the job may have died before its own
}

func (d *poolDir) settleTaken(name string, id takenIdentity) error {
	st, err := d.stat(name)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return d.refusal(name, err)
	}
	if now := identityOf(&st); now.Inode != id.Inode || now.BirthNS != 0 && now.BirthNS != id.BirthNS {
		return nil // another's
	}
	if id.ChangeNS == 0 && st.Mode&unix.S_IFMT == unix.S_IFREG {
		return d.unlink(name) // renamed by link(2): it has its new name too
	}
	return d.removeUnchanged(name, id)
}

// removeUnchanged unlinks a file if nobody has it open and nobody has written
// to it.
func (d *poolDir) removeUnchanged(name string, id takenIdentity) error {
	f, err := d.openLocked(name, backends.WriteExclusive)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := blockdev.Statx(f)
	if err != nil {
		return d.refusal(name, err)
	}
	if now := takenIdentityOf(&st); now.Size != id.Size || now.ChangeNS != id.ChangeNS {
		return fmt.Errorf("volume %q %w", d.path(name), backends.ErrChanged)
	}
	defer release(f)
	return d.unlink(name)
}
