package logical

import (
	"context"
	"errors"
	"fmt"

	"storaged/internal/backends"
	"storaged/internal/crash"
	"storaged/internal/record"
)

var _ backends.Replacer = (*draft)(nil)

// Replace gives the draft the name of a volume. LVM renames one at a time: between the two the
// name is nobody's, and Settle knows by the record whose it is to be.
func (d *draft) Replace(ctx context.Context, old backends.Taken, aside string, record func(identity []byte) error) error {
	if d.fate != undecided || d.err != nil {
		return d.err
	}
	v, ok := old.(*volume)
	if !ok || aside != "" {
		d.err = fmt.Errorf("volume %q does not stay beside the one that replaces it: %w", d.path(), backends.ErrUnsupported)
		return d.err
	}
	if d.err = ctx.Err(); d.err == nil {
		d.err = d.file.Sync()
	}
	if d.err == nil {
		d.err = record(encode(identity{UUID: d.uuid, Replaces: v.uuid}))
	}
	if d.err == nil {
		d.err = d.exchange(context.WithoutCancel(ctx), v)
	}
	return d.err
}

// exchange puts the volume of the name away, gives its name to the draft, and removes it. When
// that fails both have their names.
func (d *draft) exchange(ctx context.Context, old *volume) error {
	if err := old.becomes(ctx, d.pool, awayOf(d.job)); err != nil {
		return fmt.Errorf("cannot put volume %q away: %w", old.path(), err)
	}
	crash.At(crash.Linked)
	if err := d.becomes(ctx, d.pool, d.final); err != nil {
		err = fmt.Errorf("cannot give %q the name %q: %w", d.path(), d.final, err)
		return errors.Join(err, old.becomes(ctx, d.pool, d.final))
	}
	d.fate = committed
	crash.At(crash.Renamed)
	_ = old.Remove() // the name is the other's; what is left has none that is shown, and its storage
	return nil
}

// replaced looks after a job that was ended when it replaced a volume, whose record says by
// what: where the name is nobody's it is that one's, or else the volume's again.
func (g *group) replaced(ctx context.Context, p backends.Pool, name, job string, was identity) error {
	old, next := g.find(awayOf(job)), g.find(record.DraftName(job))
	if old == nil || old.uuid != was.Replaces {
		return nil
	}
	if g.find(name) == nil {
		to := old
		if next != nil && next.uuid == was.UUID {
			to = next
		}
		if err := to.becomes(ctx, p, name); err != nil {
			return fmt.Errorf("cannot give %q the name %q: %w", to.name, name, err)
		}
	}
	if is := g.find(name); is == nil || is.uuid != was.UUID || old.name == name {
		return nil
	}
	return old.cleared(ctx, p)
}
