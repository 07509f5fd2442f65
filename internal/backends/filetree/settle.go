package filetree

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"storaged/internal/backends"
	"storaged/internal/crash"
	"storaged/internal/image"
	"storaged/internal/record"
)

// Settle finds out whether a job had committed and removes its temporary file.
func (t Tree) Settle(ctx context.Context, p backends.Pool, name, job string, commit []byte) (bool, error) {
	if err := record.CheckJob(job); err != nil {
		return false, err
	}
	d, err := t.enter(ctx, p, name)
	if err != nil {
		return false, err
	}
	defer d.Close()
	committed, err := d.committed(name, commit)
	if err != nil {
		return false, err
	}
	if err := d.clear(record.DraftName(job)); err != nil {
		return false, fmt.Errorf("cannot clear up after job %s: %w", job, err)
	}
	crash.At(crash.Cleared)
	return committed, d.sync() // the job may have died before its own
}

// committed reports whether name is the file of the commit record.
func (d *poolDir) committed(name string, commit []byte) (bool, error) {
	if len(commit) == 0 {
		return false, nil
	}
	var id identity
	if err := json.Unmarshal(commit, &id); err != nil {
		return false, fmt.Errorf("cannot read the commit record of volume %q: %w", d.path(name), err)
	}
	st, err := d.stat(name)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, d.refusal(name, err)
	}
	return st.Mode&unix.S_IFMT == unix.S_IFREG && id.matches(identityOf(&st)), nil
}

// clear removes a temporary file if it is there and nobody has it locked. It
// may have two names: a crash inside link leaves it so.
func (d *poolDir) clear(temp string) error {
	st, err := d.stat(temp)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return d.refusal(temp, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return d.unsafe(temp, danger(&st))
	}
	f, err := d.openBeneath(temp, unix.O_RDWR, 0)
	if err != nil {
		return d.refusal(temp, err)
	}
	defer f.Close()
	if err := d.busy(temp, image.LockExclusive(f)); err != nil {
		return err
	}
	defer release(f)
	return d.unlink(temp)
}

// SettleReplaced takes the other name from a file that has the other one still.
func (t Tree) SettleReplaced(ctx context.Context, p backends.Pool, name, aside string) error {
	d, err := t.enter(ctx, p, name)
	if err != nil {
		return err
	}
	defer d.Close()
	st, err := d.stat(name)
	also, wrong := d.stat(aside)
	switch {
	case errors.Is(err, unix.ENOENT) || errors.Is(wrong, unix.ENOENT):
		return nil
	case err != nil:
		return d.refusal(name, err)
	case wrong != nil:
		return d.refusal(aside, wrong)
	case !same(&st, &also):
		return nil
	}
	if err := d.unlink(aside); err != nil {
		return err
	}
	return d.sync()
}
