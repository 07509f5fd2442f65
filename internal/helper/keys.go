package helper

import (
	"bytes"
	"cmp"
	"context"
	"errors"

	"storaged/internal/format/qemu"
	"storaged/internal/record"
)

// KeyChildren is how many children a change of the keys of an image takes at most: to
// try whether the new one is there already, to add it, to try it, and to remove the old.
const KeyChildren = 4

// keyed is an image whose keys are changed, with the secret that opens it. What it
// stands on is of no matter.
func (r *Run) keyed(s Stored, d Disk) (top qemu.Layer, drop func(), err error) {
	d.Chain, d.Alone = nil, true
	top, drop, err = d.layer(r, s)
	if err == nil && top.Secret == nil {
		err = errors.New("no secret is given that opens it")
	}
	return top, drop, err
}

// TryKey opens an image by its secret, and closes it again.
func (r *Run) TryKey(ctx context.Context, s Stored, d Disk) error {
	top, drop, err := r.keyed(s, d)
	defer drop()
	if err != nil {
		return err
	}
	return qemu.TryKey(ctx, top, r.child())
}

// AddKey has a secret open an image too, and makes that durable; where it cannot it takes
// it back. A try of it takes so many ms of the processor, 0 is QEMU's default.
func (r *Run) AddKey(ctx context.Context, s Stored, d Disk, secret string, ms int64) error {
	err := r.changeKey(s, d, secret, func(top qemu.Layer, value []byte) error {
		return qemu.AddKey(ctx, top, qemu.Key{Secret: value, Time: ms}, r.child())
	})
	if err != nil {
		return err
	}
	if err := s.Content().Flush(); err != nil {
		r.WithdrawKey(ctx, s, d, secret)
		return err
	}
	return nil
}

// RemoveKey has a secret open an image no longer, and makes that durable. A cancel does
// not end it.
func (r *Run) RemoveKey(ctx context.Context, s Stored, d Disk, secret string) error {
	ctx, done := r.Completing(ctx)
	defer done()
	err := r.changeKey(s, d, secret, func(top qemu.Layer, value []byte) error {
		return qemu.RemoveKey(ctx, top, value, r.child())
	})
	return cmp.Or(err, s.Content().Flush())
}

// WithdrawKey undoes that a secret was, or may have been, added.
func (r *Run) WithdrawKey(ctx context.Context, s Stored, d Disk, secret string) {
	r.RollingBack()
	r.Report.Rollback = string(record.RollbackDone)
	if err := r.RemoveKey(ctx, s, d, secret); err != nil && record.CodeOf(err) != record.NotFound {
		r.Report.Rollback = string(record.RollbackFailed)
		r.Warn("the secret %q may open the volume too, since it cannot be removed again (%v): storagedctl vol rekey --remove %s removes it", secret, err, secret)
	}
}

func (r *Run) changeKey(s Stored, d Disk, secret string, change func(qemu.Layer, []byte) error) error {
	top, drop, err := r.keyed(s, d)
	defer drop()
	if err != nil {
		return err
	}
	value, err := r.Secret(secret)
	if err != nil {
		return err
	}
	defer clear(value)
	return change(top, value)
}

// SameSecret reports whether two secrets have the same value.
func (r *Run) SameSecret(one, other string) (bool, error) {
	a, err := r.Secret(one)
	defer clear(a)
	if err != nil {
		return false, err
	}
	b, err := r.Secret(other)
	defer clear(b)
	return bytes.Equal(a, b), err
}
